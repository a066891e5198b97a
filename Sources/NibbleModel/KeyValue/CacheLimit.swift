public import NibbleTensor

/// How much memory the keys and values of a session may take, with the rotary table of their positions.
public enum CacheLimit: Hashable, Sendable {
  /// A share, above 0 and up to 1, of the memory that is free beside the weights. Source: lmdeploy's
  /// `cache_max_entry_count`.
  case shareOfFreeMemory(Double)
  case bytes(Int)

  /// lmdeploy's default.
  public static let standard = CacheLimit.shareOfFreeMemory(0.8)

  /// Tokens that fit.
  ///
  /// - Parameter freeBytes: memory that is free when nothing of the model is resident.
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

  /// How many tokens a session gets that would like `wanted`.
  ///
  /// - Parameter needed: without so many it is of no use.
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
