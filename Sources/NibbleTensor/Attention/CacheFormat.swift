import CNibble

/// Number format of the KV cache.
public enum CacheFormat: String, Sendable, Hashable, Codable, CaseIterable {
  case f32
  case f16
  /// Symmetric, one scale per token and head: `absmax / 127`.
  case int8
  /// Asymmetric codes of 4 bits in groups of 32 values, each with a scale and a minimum in float16:
  /// `x = code · scale + min`, `scale = (max - min) / 15`.
  ///
  /// Keys have one group per channel and 32 tokens, values one per token and 32 channels. A query
  /// reads keys and values of its own group of tokens, and of the first one, in float: see
  /// ``KeyValueStore``. Source: KIVI, arXiv 2402.02750. Ours: the float tail is the query's own
  /// group, so that results do not depend on how a text is cut; the first group stays float.
  case int4
  /// As int4, with codes of 3 bits: `scale = (max - min) / 7`.
  case int3
  /// E4M3, one scale per token and head: `absmax / 448`.
  case fp8

  var code: Int32 {
    switch self {
    case .f32: Int32(NIBBLE_CACHE_F32)
    case .f16: Int32(NIBBLE_CACHE_F16)
    case .int8: Int32(NIBBLE_CACHE_INT8)
    case .int4: Int32(NIBBLE_CACHE_INT4)
    case .int3: Int32(NIBBLE_CACHE_INT3)
    case .fp8: Int32(NIBBLE_CACHE_E4M3)
    }
  }

  /// Whether keys of several tokens share a scale.
  var groupsTokens: Bool { self == .int4 || self == .int3 }

  /// Bytes of the keys and values of one token in one layer, scales included.
  public func bytesPerToken(_ attention: Attention) -> Int {
    bytesPerPage(attention) / KeyValueStore.page
  }

  /// Bytes of the keys and values of a page of tokens in one layer.
  public func bytesPerPage(_ attention: Attention) -> Int {
    2 * attention.keyHeads * bytesPerHead(attention)
  }

  /// Bytes of the keys and values that one layer keeps in float beside its pages.
  public func floatBytes(_ attention: Attention) -> Int {
    groupsTokens ? KeptFloats.bytes(attention) : 0
  }

  /// Bytes of the keys or values of one head in one page, rounded up to whole cache lines.
  func bytesPerHead(_ attention: Attention) -> Int {
    (nibble_cache_bytes(code, attention.headSize) + 63) / 64 * 64
  }
}

/// Static scales from calibration, used instead of those of each token or group: one per key head, above
/// zero. Codes of int4 and int3 are then symmetric: `min` is -8 or -4 scales.
public struct CacheScales: Sendable, Hashable {
  public var keys: [Float]
  public var values: [Float]

  public init(keys: [Float], values: [Float]) {
    self.keys = keys
    self.values = values
  }
}
