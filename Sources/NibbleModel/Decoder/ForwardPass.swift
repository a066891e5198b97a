public import NibbleTensor

/// Runs blocks over states `[t, hidden]`; owns the memory between the steps.
public struct ForwardPass: Sendable {
  public let config: DecoderConfig
  public let compute: Compute
  private var memory = BlockMemory()
  private let rotary: RotaryTable

  /// - Parameter positions: how many positions a sequence may have.
  public init(_ config: DecoderConfig, positions: Int, on compute: Compute) throws(ModelError) {
    if let limit = config.rotary.limit, positions > limit {
      throw .tooManyTokens(
        positions, limit: limit, what: "the model's rotary scaling is supported up to")
    }
    self.config = config
    self.compute = compute
    rotary = RotaryTable(frequencies: config.rotary.frequencies, positions: 0..<positions)
  }

  /// `x += o(attention(q, k, v of norm(x)))`, then `x += down(silu(gate) · up of norm(x))`.
  ///
  /// - Parameters:
  ///   - states: `[t, hidden]`: the tokens of one sequence from `position` on; overwritten.
  ///   - layer: keys and values of the tokens before `position`; those of `states` are added.
  public mutating func run(
    _ block: Block, on states: inout [Float], from position: Int,
    layer: inout KeyValueCache.Layer, capacity: Int
  ) {
    memory.resize(tokens: states.count / config.hidden, config)
    norm(states, block.inputNorm)
    apply(block, .query, memory.normed, into: &memory.queries)
    apply(block, .key, memory.normed, into: &memory.keys)
    apply(block, .value, memory.normed, into: &memory.values)
    attend(from: position, layer: &layer, capacity: capacity)
    apply(block, .output, memory.attended, into: &memory.result)
    add(memory.result, to: &states)

    norm(states, block.postAttentionNorm)
    apply(block, .gate, memory.normed, into: &memory.gate)
    apply(block, .up, memory.normed, into: &memory.up)
    multiply(&memory.gate, afterSiLUBy: memory.up)
    apply(block, .down, memory.gate, into: &memory.result)
    add(memory.result, to: &states)
  }

  /// The final norm and the head: logits `[t, part.count]` of a part of the vocabulary.
  public mutating func logits(
    _ states: [Float], norm weight: [Float], head: Weight, into logits: inout [Float]
  ) {
    memory.resize(tokens: states.count / config.hidden, config)
    norm(states, weight)
    var out = logits.mutableSpan
    head.multiply(memory.normed.span, into: &out, on: compute)
  }

  private mutating func norm(_ states: [Float], _ weight: [Float]) {
    norm(states, weight, into: &memory.normed)
  }

  private func norm(_ states: [Float], _ weight: [Float], into y: inout [Float]) {
    var out = y.mutableSpan
    compute.rmsNorm(states.span, weight: weight.span, epsilon: config.normEpsilon, into: &out)
  }

  private func apply(_ block: Block, _ role: Role, _ x: [Float], into y: inout [Float]) {
    guard let linear = block.linears[role] else {
      preconditionFailure("the block has no \(role)")
    }
    var out = y.mutableSpan
    linear.weight.multiply(x.span, into: &out, on: compute)
    if let bias = linear.bias { compute.addBias(bias.span, to: &out) }
  }

  private func multiply(_ gate: inout [Float], afterSiLUBy up: [Float]) {
    var out = gate.mutableSpan
    compute.siluMultiply(&out, by: up.span)
  }

  private func add(_ x: [Float], to states: inout [Float]) {
    var out = states.mutableSpan
    compute.add(x.span, to: &out)
  }

  private mutating func attend(
    from position: Int, layer: inout KeyValueCache.Layer, capacity: Int
  ) {
    let attention = config.attention
    rotate(&memory.queries, heads: attention.heads, from: position)
    rotate(&memory.keys, heads: attention.keyHeads, from: position)
    store(memory.keys, at: position, capacity: capacity, in: &layer.keys)
    store(memory.values, at: position, capacity: capacity, in: &layer.values)
    attend(layer, from: position, capacity: capacity, memory.queries, into: &memory.attended)
  }

  private func rotate(_ x: inout [Float], heads: Int, from position: Int) {
    var out = x.mutableSpan
    rotary.rotate(&out, heads: heads, from: position, on: compute)
  }

  private func store(
    _ rows: [Float], at position: Int, capacity: Int, in store: inout [Float]
  ) {
    var out = store.mutableSpan
    config.attention.store(rows.span, at: position, capacity: capacity, in: &out)
  }

  private func attend(
    _ layer: KeyValueCache.Layer, from position: Int, capacity: Int, _ queries: [Float],
    into y: inout [Float]
  ) {
    var out = y.mutableSpan
    config.attention.attend(
      queries.span, keys: layer.keys.span, values: layer.values.span, capacity: capacity,
      from: position, into: &out, on: compute)
  }
}
