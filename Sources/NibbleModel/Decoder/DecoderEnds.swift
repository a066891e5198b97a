public import NibbleTensor

/// The parameters outside the blocks: embedding, final norm and head.
public struct DecoderEnds: Sendable {
  public let shape: DecoderShape
  /// `[vocabulary, width]`
  public let embedding: Weight
  private let positions: Weight?
  private let inputProjection: Weight?
  private let embeddingNorm: Norm?
  /// The table, the projection and the norm of the blocks' own inputs.
  private let blockInputs: (table: Weight, projection: Weight, norm: Norm)?
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
    if let inputs = ends.blockInputs {
      let width = inputs.blocks * inputs.width
      blockInputs = (
        try source.weight(inputs.path, outputs: inputs.rows, inputs: width),
        try source.weight(inputs.projection, outputs: width, inputs: shape.hidden),
        try source.norm(inputs.norm, at: inputs.norm.path)
      )
    } else {
      blockInputs = nil
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
  /// block, with room for the carried values behind them.
  public func states(
    of tokens: [Int], from position: Int = 0, on compute: Compute
  ) throws(ModelError) -> [Float] {
    var states = try Self.rows(tokens, of: embedding)
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
    guard shape.carriedWidth > 0 else { return states }
    let inputs = try ownInputs(of: tokens, states, on: compute)
    // Keys and values are written by the blocks that compute them.
    let others = tokens.count * shape.carriedWidth - inputs.count
    return states + inputs + [Float](repeating: 0, count: others)
  }

  /// The rows of some tokens. Each row read from a mapped embedding leaves its whole page in memory,
  /// so pages are released.
  private static func rows(_ tokens: [Int], of table: Weight) throws(ModelError) -> [Float] {
    var rows: [Float] = []
    rows.reserveCapacity(tokens.count * table.columns)
    for (index, token) in tokens.enumerated() {
      guard token >= 0, token < table.rows else {
        throw .tokenOutsideVocabulary(token, vocabulary: table.rows)
      }
      rows += table.values(of: token..<token + 1)
      if tokens.count <= 8 {
        table.release(row: token)
      } else if index % 64 == 63 || index == tokens.count - 1 {
        table.release()
      }
    }
    return rows
  }

  /// The blocks' own inputs: `[t, width]` per block.
  private func ownInputs(
    of tokens: [Int], _ states: [Float], on compute: Compute
  ) throws(ModelError) -> [Float] {
    guard let inputs = shape.embedding.blockInputs, let blockInputs else { return [] }
    let width = inputs.blocks * inputs.width
    let rows = try Self.rows(tokens, of: blockInputs.table)
    var projected = [Float](repeating: 0, count: tokens.count * width)
    var span = projected.mutableSpan
    PreparedWeight(blockInputs.projection).multiply(states.span, into: &span, on: compute)
    compute.scale(&span, by: 1 / Float(shape.hidden).squareRoot())
    var normed = projected
    compute.norm(projected, by: blockInputs.norm, into: &normed)
    let (root, half) = (Float(inputs.width).squareRoot(), Float(0.5).squareRoot())
    var result: [Float] = []
    result.reserveCapacity(tokens.count * width)
    for block in 0..<inputs.blocks {
      for token in tokens.indices {
        let first = token * width + block * inputs.width
        for i in first..<first + inputs.width {
          result.append((normed[i] + rows[i] * root) * half)
        }
      }
    }
    return result
  }
}
