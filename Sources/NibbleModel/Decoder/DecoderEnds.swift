public import NibbleTensor

/// The parameters outside the blocks: embedding, final norm and head.
public struct DecoderEnds: Sendable {
  public let shape: DecoderShape
  /// `[vocabulary, width]`
  public let embedding: Weight
  private let positions: Weight?
  private let inputProjection: Weight?
  private let embeddingNorm: Norm?
  public let finalNorm: Norm?
  let outputProjection: Weight?
  /// `[vocabulary, width]`
  public internal(set) var head: Weight

  public init(_ shape: DecoderShape, from source: some WeightSource) throws(ModelError) {
    self.shape = shape
    let ends = shape.embedding
    embedding = try source.weight(ends.path, outputs: shape.vocabulary, inputs: ends.width)
    if let learned = ends.positions {
      positions = try source.weight(learned.path, outputs: learned.rows, inputs: shape.hidden)
    } else {
      positions = nil
    }
    if let path = ends.projection {
      inputProjection = try source.weight(path, outputs: shape.hidden, inputs: ends.width)
    } else {
      inputProjection = nil
    }
    if let path = shape.head.projection {
      outputProjection = try source.weight(path, outputs: ends.width, inputs: shape.hidden)
    } else {
      outputProjection = nil
    }
    embeddingNorm = try Self.norm(ends.norm, from: source)
    finalNorm = try Self.norm(shape.finalNorm, from: source)
    head =
      shape.head.isTied
      ? embedding
      : try source.weight(shape.head.path, outputs: shape.vocabulary, inputs: ends.width)
  }

  private static func norm(
    _ shape: NormShape?, from source: some WeightSource
  ) throws(ModelError) -> Norm? {
    guard let shape else { return nil }
    return try source.norm(shape, at: shape.path)
  }

  /// Hidden states `[t, hidden]` of tokens at `position`, `position + 1`, ... before the first
  /// block.
  public func states(
    of tokens: [Int], from position: Int = 0, on compute: Compute
  ) throws(ModelError) -> [Float] {
    var states: [Float] = []
    states.reserveCapacity(tokens.count * embedding.columns)
    // Each row read from a mapped embedding leaves its whole page in memory, so pages are released.
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
    if shape.embedding.scale != 1 {
      var span = states.mutableSpan
      compute.scale(&span, by: shape.embedding.scale)
    }
    if let inputProjection {
      var projected = [Float](repeating: 0, count: tokens.count * shape.hidden)
      var span = projected.mutableSpan
      PreparedWeight(inputProjection).multiply(states.span, into: &span, on: compute)
      states = projected
    }
    if let positions, let learned = shape.embedding.positions {
      let first = position + learned.offset
      guard first + tokens.count <= learned.rows else {
        throw .tooManyTokens(
          position + tokens.count, limit: learned.rows - learned.offset,
          what: "the model has positions for")
      }
      var span = states.mutableSpan
      let rows = positions.values(of: first..<first + tokens.count)
      compute.add(rows.span, to: &span)
    }
    if let embeddingNorm {
      var normed = states
      compute.norm(states, by: embeddingNorm, into: &normed)
      states = normed
    }
    return states
  }
}
