public import NibbleTensor

/// Keys and values of the tokens seen so far, for every block.
public struct KeyValueCache: Sendable {
  public let format: KeyValueFormat
  public let capacity: Int
  /// Tokens stored.
  public internal(set) var count = 0
  let layers: [KeyValueStore]

  /// - Parameter scales: from calibration, for each block; nil for a scale of each token's own.
  public init(
    _ config: DecoderConfig, capacity: Int, format: KeyValueFormat = .f32,
    scales: [KeyValueScales]? = nil
  ) {
    self.capacity = capacity
    self.format = format
    layers = (0..<config.blocks).map {
      KeyValueStore(
        config.attention, capacity: capacity, format: format, scales: scales?[$0])
    }
  }

  /// Forgets the tokens from `count` on.
  public mutating func truncate(to count: Int) {
    precondition(count <= self.count, "\(count) of \(self.count) tokens")
    self.count = count
  }
}
