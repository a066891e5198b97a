public import NibbleTensor

/// A decoder that can run. Its parameters are mapped from a file or in memory of their own.
public struct Decoder: Sendable {
  public internal(set) var ends: DecoderEnds
  public internal(set) var blocks: [Block]

  public var shape: DecoderShape { ends.shape }
  /// `[vocabulary, width]`
  public var embedding: Weight { ends.embedding }
  /// `[vocabulary, width]`
  public internal(set) var head: Weight {
    get { ends.head }
    set { ends.head = newValue }
  }

  public init(_ shape: DecoderShape, from source: some WeightSource) throws(ModelError) {
    ends = try DecoderEnds(shape, from: source)
    var blocks: [Block] = []
    for block in shape.blocks { blocks.append(try Block(block, from: source)) }
    self.blocks = blocks
  }
}
