public import NibbleTensor

/// The KV cache of every block. Not copyable, since its stores are reference types.
public struct KeyValueCache: ~Copyable, Sendable {
  public let format: CacheFormat
  public let capacity: Int
  /// Tokens stored, at most `capacity`.
  public internal(set) var count = 0
  let layers: [KeyValueStore]

  /// - Parameter scales: static scales from calibration, one entry per block. Used only if measured
  ///   for `format`. Otherwise each token has its own scales.
  public init(
    _ shape: DecoderShape, capacity: Int, format: CacheFormat = .f32,
    scales: [KeyValueScales]? = nil
  ) {
    self.capacity = capacity
    self.format = format
    layers = shape.attentions.enumerated().map { index, attention in
      KeyValueStore(
        attention.core, capacity: capacity, format: format, calibrated: scales?[index])
    }
  }

  /// Bytes per token: its keys and values in all blocks, and its rows of the rotary tables.
  static func bytesPerToken(_ shape: DecoderShape, format: CacheFormat) -> Int {
    shape.attentions.reduce(rotaryBytes(shape)) { $0 + format.bytesPerToken($1.core) }
  }

  private static func rotaryBytes(_ shape: DecoderShape) -> Int {
    Set(shape.attentions.compactMap(\.rotary)).reduce(0) {
      $0 + RotaryTable.bytesPerPosition(pairs: $1.pairs)
    }
  }

  /// Number of tokens that fit in `bytes`, in whole pages.
  static func tokens(in bytes: Int, _ shape: DecoderShape, format: CacheFormat) -> Int {
    let page = shape.attentions.reduce(KeyValueStore.page * rotaryBytes(shape)) {
      $0 + format.bytesPerPage($1.core)
    }
    return max(0, bytes) / max(1, page) * KeyValueStore.page
  }

  /// Removes the tokens from `count` on.
  public mutating func truncate(to count: Int) {
    precondition(count <= self.count, "\(count) of \(self.count) tokens")
    self.count = count
  }
}

extension KeyValueStore {
  /// - Parameter calibrated: static scales, used only if measured for `format`. Otherwise each
  ///   token has its own scales.
  public convenience init(
    _ attention: Attention, capacity: Int, format: CacheFormat, calibrated: KeyValueScales?
  ) {
    self.init(
      attention, capacity: capacity, format: format,
      scales: calibrated?.expanded(to: format, heads: attention.keyHeads))
  }
}

extension KeyValueFormat {
  /// The same format as a KV cache format.
  public var cache: CacheFormat {
    switch self {
    case .fp8: .fp8
    case .int8: .int8
    case .int4: .int4
    }
  }
}

extension KeyValueScales {
  /// One scale per key head; nil if measured for another format.
  fileprivate func expanded(to kept: CacheFormat, heads: Int) -> CacheScales? {
    guard kept == format.cache else { return nil }
    func each(_ scales: [Float]) -> [Float] {
      scales.count == heads ? scales : Array(repeating: scales[0], count: heads)
    }
    return CacheScales(keys: each(keys), values: each(values))
  }
}
