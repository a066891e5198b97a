import NibbleTensor

/// Intermediate results of one block. All blocks share them, so nothing is allocated per block.
struct BlockMemory {
  /// The hidden states at the input of a block with parallel branches.
  var input: [Float] = []
  var normed: [Float] = []
  /// Outputs of a fused linear, all parts.
  var fused: [Float] = []
  var queries: [Float] = []
  var keys: [Float] = []
  var values: [Float] = []
  var attended: [Float] = []
  var gate: [Float] = []
  var up: [Float] = []
  var result: [Float] = []
  /// Output of a branch's `after` or `closing` norm.
  var ended: [Float] = []
  /// Result of a branch that joins the next one.
  var joined: [Float] = []
  /// Input of a router with a norm of its own.
  var routed: [Float] = []
  /// The values that travel beside the hidden states.
  var carried: [Float] = []
  /// The router's logits, `[t, experts]`.
  var scores: [Float] = []
  var expert = UnitMemory()
  /// The gate of attention or of a mixer, `[t, channels of the result]`.
  var outputGate: [Float] = []
  /// Queries, keys and values of a mixer, before and after its convolution.
  var mixed: [Float] = []
  var convolved: [Float] = []
  /// What weighs and decays a mixer's state, `[t, valueHeads]`.
  var strengths: [Float] = []
  var steps: [Float] = []
  /// KV cache of one whole sequence, which no later token reads.
  private var store: KeyValueStore?

  mutating func resize(tokens: Int, _ shape: BlockShape, hidden: Int) {
    Self.fit(&normed, tokens * hidden)
    Self.fit(&result, tokens * hidden)
    if shape.branches.contains(where: { $0.inner != nil || $0.after != nil || $0.closing != nil }) {
      Self.fit(&ended, tokens * hidden)
    }
    var fusedWidth = 0
    if let attention = shape.attention {
      Self.fit(&queries, tokens * attention.core.queryWidth)
      Self.fit(&keys, tokens * attention.core.keyWidth)
      Self.fit(&values, tokens * attention.core.keyWidth)
      Self.fit(&attended, tokens * attention.core.queryWidth)
      if attention.isGated { Self.fit(&outputGate, tokens * attention.core.queryWidth) }
      fusedWidth =
        attention.inputs.filter { $0.parts.count > 1 }.map(\.outputs).max() ?? 0
    }
    if let net = shape.mixer?.core {
      Self.fit(&mixed, tokens * net.channels)
      Self.fit(&convolved, tokens * net.channels)
      Self.fit(&strengths, tokens * net.valueHeads)
      Self.fit(&steps, tokens * net.valueHeads)
      Self.fit(&outputGate, tokens * net.valueWidth)
      Self.fit(&attended, tokens * net.valueWidth)
    }
    if let feedForward = shape.feedForward {
      Self.fit(&gate, tokens * feedForward.width)
      if feedForward.isGated { Self.fit(&up, tokens * feedForward.width) }
      if feedForward.isGated, feedForward.inputs.count == 1 {
        fusedWidth = max(fusedWidth, feedForward.inputs[0].outputs)
      }
    }
    if let experts = shape.experts {
      Self.fit(&scores, tokens * experts.units.count)
      if experts.routerInput != nil { Self.fit(&routed, tokens * hidden) }
    }
    if fused.count < tokens * fusedWidth {
      fused = [Float](repeating: 0, count: tokens * fusedWidth)
    }
  }

  /// Takes the carried values, behind the first `count` values of `states`, out of it.
  mutating func takeCarried(_ states: inout [Float], behind count: Int) {
    guard states.count > count else { return }
    carried = Array(states[count...])
    states.removeLast(states.count - count)
  }

  /// Appends what ``takeCarried(_:behind:)`` took.
  mutating func returnCarried(to states: inout [Float]) {
    states += carried
    carried = []
  }

  fileprivate static func fit(_ values: inout [Float], _ count: Int) {
    if values.count != count { values = [Float](repeating: 0, count: count) }
  }

  /// A KV cache for a whole sequence. The contents of the previous one are overwritten.
  mutating func sequenceStore(tokens: Int, _ attention: Attention) -> KeyValueStore {
    // Copies of this struct share the store until one of them writes.
    if isKnownUniquelyReferenced(&self.store), let store, store.capacity == tokens,
      store.attention == attention
    {
      return store
    }
    let new = KeyValueStore(attention, capacity: tokens)
    store = new
    return new
  }
}

/// Intermediate results of one expert for the tokens routed to it, or of a block's own input.
struct UnitMemory {
  var input: [Float] = []
  var gate: [Float] = []
  var up: [Float] = []
  /// Outputs of a linear that fuses gate and up.
  var fused: [Float] = []
  var result: [Float] = []

  mutating func resize(tokens: Int, _ unit: FeedForwardShape) {
    BlockMemory.fit(&input, tokens * unit.inputs[0].inputs)
    BlockMemory.fit(&gate, tokens * unit.width)
    if unit.isGated { BlockMemory.fit(&up, tokens * unit.width) }
    if unit.isGated, unit.inputs.count == 1 {
      BlockMemory.fit(&fused, tokens * unit.inputs[0].outputs)
    }
    BlockMemory.fit(&result, tokens * unit.down.outputs)
  }

  mutating func resize(tokens: Int, _ shape: BlockInputShape) {
    BlockMemory.fit(&gate, tokens * shape.gate.outputs)
  }
}
