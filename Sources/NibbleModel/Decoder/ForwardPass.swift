public import NibbleTensor

/// Runs blocks over states `[t, hidden]`; owns the memory between the steps.
public struct ForwardPass: Sendable {
  private let arithmetic: BlockArithmetic
  private var memory = BlockMemory()

  public var config: DecoderConfig { arithmetic.config }
  public var compute: Compute { arithmetic.compute }

  /// - Parameter positions: how many positions a sequence may have.
  public init(_ config: DecoderConfig, positions: Int, on compute: Compute) throws(ModelError) {
    if let limit = config.rotary.limit, positions > limit {
      throw .tooManyTokens(
        positions, limit: limit, what: "the model's rotary scaling is supported up to")
    }
    arithmetic = BlockArithmetic(
      config: config, compute: compute,
      rotary: RotaryTable(frequencies: config.rotary.frequencies, positions: 0..<positions))
  }

  /// `x += o(attention(q, k, v of norm(x)))`, then `x += down(silu(gate) · up of norm(x))`.
  ///
  /// - Parameters:
  ///   - states: `[t, hidden]`: the tokens of one sequence from `position` on; overwritten.
  ///   - store: keys and values of the tokens before `position`; those of `states` are added.
  public mutating func run(
    _ block: Block, on states: inout [Float], from position: Int,
    keeping store: KeyValueStore
  ) {
    run(block, on: &states, from: position, keeping: store, as: .states) { _, _ in }
  }

  /// The same over a whole sequence; `watch` sees what enters the linears of each site, `[t, k]`, and
  /// does not keep it.
  ///
  /// - Parameter isLast: whether nobody reads the states afterwards, so that the block need not be
  ///   computed to its end.
  public mutating func run(
    _ block: Block, on states: inout [Float], isLast: Bool = false,
    watch: (Site, _ activation: [Float]) -> Void
  ) {
    let store = memory.sequenceStore(tokens: states.count / config.hidden, config.attention)
    run(block, on: &states, from: 0, keeping: store, as: isLast ? .last : .watched, watch: watch)
  }

  /// What a run is for.
  private enum Purpose { case states, watched, last }

  private mutating func run(
    _ block: Block, on states: inout [Float], from position: Int,
    keeping store: KeyValueStore, as purpose: Purpose, watch: (Site, [Float]) -> Void
  ) {
    memory.resize(tokens: states.count / config.hidden, config)
    attend(block, states, from: position, keeping: store)
    watch(.attention, memory.normed)
    watch(.output, memory.attended)
    arithmetic.apply(block, .output, memory.attended, into: &memory.result)
    arithmetic.add(memory.result, to: &states)
    arithmetic.norm(states, block.postAttentionNorm, into: &memory.normed)
    watch(.feedForward, memory.normed)
    if purpose != .states || !arithmetic.feedForward(block, memory.normed, into: &memory.result) {
      gate(block)
      watch(.down, memory.gate)
      if purpose == .last { return }
      arithmetic.apply(block, .down, memory.gate, into: &memory.result)
    }
    arithmetic.add(memory.result, to: &states)
  }

  /// The activation `[t, k]` that enters the linears of `site`, for the states of a whole sequence.
  ///
  /// - Parameter states: `[t, hidden]`: before the block for `attention` and `output`, after its
  ///   attention for `feedForward` and `down`.
  public mutating func activation(
    at site: Site, of block: Block, _ states: [Float]
  ) -> [Float] {
    let tokens = states.count / config.hidden
    memory.resize(tokens: tokens, config)
    switch site {
    case .attention:
      arithmetic.norm(states, block.inputNorm, into: &memory.normed)
      return memory.normed
    case .output:
      attend(
        block, states, from: 0,
        keeping: memory.sequenceStore(tokens: tokens, config.attention))
      return memory.attended
    case .feedForward:
      arithmetic.norm(states, block.postAttentionNorm, into: &memory.normed)
      return memory.normed
    case .down:
      arithmetic.norm(states, block.postAttentionNorm, into: &memory.normed)
      gate(block)
      return memory.gate
    }
  }

  /// Keys, rotated, and values `[t, keyHeads · d]` of the sequence that was attended to last.
  public var keysAndValues: (keys: [Float], values: [Float]) { (memory.keys, memory.values) }

  /// `states += linear(activation)`, for the output and down projections.
  public mutating func add(
    _ role: Role, of block: Block, _ activation: [Float], to states: inout [Float]
  ) {
    memory.resize(tokens: states.count / config.hidden, config)
    arithmetic.apply(block, role, activation, into: &memory.result)
    arithmetic.add(memory.result, to: &states)
  }

  /// Norm, query, key, value, attention: into `memory.attended`.
  private mutating func attend(
    _ block: Block, _ states: [Float], from position: Int, keeping store: KeyValueStore
  ) {
    let (run, attention) = (arithmetic, config.attention)
    run.norm(states, block.inputNorm, into: &memory.normed)
    run.project(
      block, memory.normed, intoQueries: &memory.queries, keys: &memory.keys,
      values: &memory.values)
    run.rotate(&memory.queries, heads: attention.heads, from: position)
    run.rotate(&memory.keys, heads: attention.keyHeads, from: position)
    run.attend(
      store, from: position, memory.queries, keys: memory.keys, values: memory.values,
      into: &memory.attended)
  }

  /// Gate, up: `silu(gate) · up` of `memory.normed` into `memory.gate`.
  private mutating func gate(_ block: Block) {
    arithmetic.gate(block, memory.normed, into: &memory.gate, up: &memory.up)
  }

  /// The final norm and the head: logits `[t, part.count]` of a part of the vocabulary.
  public func logits(
    _ states: [Float], norm: Norm, head: PreparedWeight, into logits: inout [Float]
  ) {
    var normed = [Float](repeating: 0, count: states.count)
    arithmetic.norm(states, norm, into: &normed)
    var out = logits.mutableSpan
    head.multiply(normed.span, into: &out, on: compute)
  }

  /// The final norm, the head and the loss of each row's target, in nats.
  public func losses(
    _ states: [Float], norm: Norm, head: PreparedWeight, targets: [Int]
  ) -> [Double] {
    var normed = [Float](repeating: 0, count: states.count)
    arithmetic.norm(states, norm, into: &normed)
    return compute.losses(normed.span, head: head, targets: targets)
  }
}
