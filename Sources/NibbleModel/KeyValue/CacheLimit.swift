public import NibbleTensor

/// Memory limit of a session's KV cache, including the rotary table of its positions.
public enum CacheLimit: Hashable, Sendable {
  /// Fraction (above 0, up to 1) of the memory left after loading the weights. Source: lmdeploy's
  /// `cache_max_entry_count`.
  case shareOfFreeMemory(Double)
  case bytes(Int)

  /// lmdeploy's default.
  public static let standard = CacheLimit.shareOfFreeMemory(0.8)

  /// Number of tokens that fit.
  ///
  /// - Parameter freeBytes: free memory while nothing of the model is resident.
  public func tokens(
    _ decoder: Decoder, keeping format: CacheFormat, freeBytes: Int = FreeMemory.bytes
  ) -> Int {
    let bytes: Int =
      switch self {
      case .shareOfFreeMemory(let share):
        Int(share * Double(max(0, freeBytes - decoder.weightBytes)))
      case .bytes(let bytes): bytes
      }
    return KeyValueCache.tokens(in: bytes, decoder.shape, format: format)
  }

  /// Capacity of a session in tokens: `wanted`, or as many as fit.
  ///
  /// - Parameter needed: the smallest useful number of tokens; an error if it does not fit.
  public func capacity(
    wanted: Int, needed: Int, _ decoder: Decoder, keeping format: CacheFormat,
    freeBytes: Int = FreeMemory.bytes
  ) throws(ModelError) -> Int {
    let fitting = tokens(decoder, keeping: format, freeBytes: freeBytes)
    guard needed <= fitting else {
      throw .cacheTooSmall(
        tokens: needed, fitting: fitting,
        bytesPerToken: KeyValueCache.bytesPerToken(decoder.shape, format: format),
        limit: description)
    }
    return min(wanted, fitting)
  }
}

extension CacheLimit: CustomStringConvertible {
  public var description: String {
    switch self {
    case .shareOfFreeMemory(let share): "\(share) of the free memory"
    case .bytes(let bytes): "\(bytes) bytes"
    }
  }
}
