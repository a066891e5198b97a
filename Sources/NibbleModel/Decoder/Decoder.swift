public import NibbleTensor

/// A decoder ready to run: its parameters in place, mapped or owned.
public struct Decoder: Sendable {
  public let config: DecoderConfig
  /// `[vocabulary, hidden]`
  public let embedding: Weight
  public internal(set) var blocks: [Block]
  public let finalNorm: Norm
  /// `[vocabulary, hidden]`
  public internal(set) var head: Weight

  public init(_ config: DecoderConfig, from source: some WeightSource) throws(ModelError) {
    let ends = try DecoderEnds(config, from: source)
    self.config = config
    embedding = ends.embedding
    finalNorm = ends.finalNorm
    head = ends.head
    var blocks: [Block] = []
    for index in 0..<config.blocks { blocks.append(try Block(index, of: config, from: source)) }
    self.blocks = blocks
  }
}

/// What stands before the first block and after the last.
public struct DecoderEnds: Sendable {
  public let embedding: Weight
  public let finalNorm: Norm
  public let head: Weight

  public init(_ config: DecoderConfig, from source: some WeightSource) throws(ModelError) {
    let family = config.family
    embedding = try source.weight(
      family.embedding, outputs: config.vocabulary, inputs: config.hidden)
    finalNorm = try source.norm(family.finalNorm, width: config.hidden)
    head =
      config.tiesHead
      ? embedding
      : try source.weight(family.head, outputs: config.vocabulary, inputs: config.hidden)
  }

  public init(_ decoder: Decoder) {
    embedding = decoder.embedding
    finalNorm = decoder.finalNorm
    head = decoder.head
  }

  /// States `[t, hidden]` of tokens: rows of the embedding.
  public func states(of tokens: [Int]) throws(ModelError) -> [Float] {
    var states: [Float] = []
    states.reserveCapacity(tokens.count * embedding.columns)
    // Rows of a mapped embedding would stay in memory, each with its neighbours.
    for (index, token) in tokens.enumerated() {
      guard token >= 0, token < embedding.rows else {
        throw .tokenOutsideVocabulary(token, vocabulary: embedding.rows)
      }
      states += embedding.values(of: token..<token + 1)
      if tokens.count <= 8 {
        embedding.release(row: token)
      } else if index % 64 == 63 || index == tokens.count - 1 {
        embedding.release()
      }
    }
    return states
  }
}
