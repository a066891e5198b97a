public import NibbleTensor

/// Keys and values of the tokens seen so far, for every block: float, `[keyHeads, capacity, d]`.
public struct KeyValueCache: Sendable {
  public struct Layer: Sendable {
    var keys: [Float]
    var values: [Float]

    public init(_ attention: Attention, capacity: Int) {
      keys = [Float](
        repeating: 0, count: attention.keyHeads * attention.headSize * capacity)
      values = keys
    }
  }

  public let capacity: Int
  /// Tokens stored.
  public internal(set) var count = 0
  var layers: [Layer]

  public init(_ config: DecoderConfig, capacity: Int) {
    self.capacity = capacity
    layers = (0..<config.blocks).map { _ in Layer(config.attention, capacity: capacity) }
  }

  /// Forgets the tokens from `count` on.
  public mutating func truncate(to count: Int) {
    precondition(count <= self.count, "\(count) of \(self.count) tokens")
    self.count = count
  }
}
