public import NibbleTensor

/// Keys and values of the tokens seen so far, for every block.
public struct KeyValueCache: Sendable {
  public let format: KeyValueFormat
  public let capacity: Int
  /// Tokens stored.
  public internal(set) var count = 0
  let layers: [KeyValueStore]

  /// - Parameter scales: from calibration, for each block; used when they were measured for `format`.
  ///   Otherwise each token has its own.
  public init(
    _ config: DecoderConfig, capacity: Int, format: KeyValueFormat = .f32,
    scales: [CacheScales]? = nil
  ) {
    self.capacity = capacity
    self.format = format
    layers = (0..<config.blocks).map {
      KeyValueStore(
        config.attention, capacity: capacity, format: format, scales: scales?[$0].perHead(for: format, config.attention.keyHeads))
    }
  }

  /// Forgets the tokens from `count` on.
  public mutating func truncate(to count: Int) {
    precondition(count <= self.count, "\(count) of \(self.count) tokens")
    self.count = count
  }
}

extension CacheScales {
  /// Nil when they were measured for another format.
  fileprivate func perHead(for kept: KeyValueFormat, _ keyHeads: Int) -> KeyValueScales? {
    kept.rawValue == format.rawValue ? perHead(keyHeads) : nil
  }
}
