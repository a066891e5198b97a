/// Formats of a KV cache with calibrated scales.
public enum KeyValueFormat: String, Hashable, Sendable, Codable, CaseIterable {
  /// FP8 E4M3, one scale for the keys of a block and one for its values.
  case fp8
  /// Symmetric codes in -127...127, one scale per key head.
  case int8
  /// Symmetric codes in -7...7, one scale per key head.
  case int4

  /// Code of the largest magnitude.
  public var largestCode: Float {
    switch self {
    case .fp8: 448
    case .int8: 127
    case .int4: 7
    }
  }

  /// Whether each key head has its own scale.
  public var isPerHead: Bool { self != .fp8 }
}

/// The scales of one block's cache: `key = code · keys[h]` after rotation, `value = code · values[h]`.
///
/// `[1]`, for all heads, or `[keyHeads]`; finite and above zero.
public struct KeyValueScales: Hashable, Sendable, Codable {
  public let format: KeyValueFormat
  public let keys: [Float]
  public let values: [Float]

  /// Nil when a scale is not finite or not above zero, or when keys and values have different
  /// counts.
  public init?(_ format: KeyValueFormat, keys: [Float], values: [Float]) {
    guard keys.count == values.count, !keys.isEmpty, format.isPerHead || keys.count == 1,
      (keys + values).allSatisfy({ $0.isFinite && $0 > 0 })
    else { return nil }
    self.format = format
    self.keys = keys
    self.values = values
  }

  /// Number of scales for keys, and for values: 1, or one per head.
  public static func count(_ format: KeyValueFormat, keyHeads: Int) -> Int {
    format.isPerHead ? keyHeads : 1
  }
}
