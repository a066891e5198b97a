import NibbleTensor

/// Intermediate results of one block, kept from block to block so that none is allocated twice.
struct BlockMemory {
  /// The states that entered a block whose branches run in parallel.
  var input: [Float] = []
  var normed: [Float] = []
  /// All outputs of a linear that holds several parts.
  var fused: [Float] = []
  var queries: [Float] = []
  var keys: [Float] = []
  var values: [Float] = []
  var attended: [Float] = []
  var gate: [Float] = []
  var up: [Float] = []
  var result: [Float] = []
  /// The result of a branch, or the states, after a norm.
  var ended: [Float] = []
  /// The outputs of a router, `[t, experts]`.
  var scores: [Float] = []
  var expert = UnitMemory()
  /// Keys and values of a whole sequence that nobody continues.
  private var store: KeyValueStore?

  mutating func resize(tokens: Int, _ shape: BlockShape, hidden: Int) {
    Self.fit(&normed, tokens * hidden)
    Self.fit(&result, tokens * hidden)
    if shape.branches.contains(where: { $0.after != nil || $0.closing != nil }) {
      Self.fit(&ended, tokens * hidden)
    }
    var fusedWidth = 0
    if let attention = shape.attention {
      Self.fit(&queries, tokens * attention.core.queryWidth)
      Self.fit(&keys, tokens * attention.core.keyWidth)
      Self.fit(&values, tokens * attention.core.keyWidth)
      Self.fit(&attended, tokens * attention.core.queryWidth)
      if attention.inputs.count == 1 { fusedWidth = attention.inputs[0].outputs }
    }
    if let feedForward = shape.feedForward {
      Self.fit(&gate, tokens * feedForward.width)
      if feedForward.isGated { Self.fit(&up, tokens * feedForward.width) }
      if feedForward.isGated, feedForward.inputs.count == 1 {
        fusedWidth = max(fusedWidth, feedForward.inputs[0].outputs)
      }
    }
    if let experts = shape.experts { Self.fit(&scores, tokens * experts.units.count) }
    if fused.count < tokens * fusedWidth {
      fused = [Float](repeating: 0, count: tokens * fusedWidth)
    }
  }

  fileprivate static func fit(_ values: inout [Float], _ count: Int) {
    if values.count != count { values = [Float](repeating: 0, count: count) }
  }

  /// The store of a whole sequence; what it held is overwritten.
  mutating func sequenceStore(tokens: Int, _ attention: Attention) -> KeyValueStore {
    // A copy of this memory has the same store until one of the two writes.
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

/// What one unit of a mixture of experts works on: the tokens that were sent to it.
struct UnitMemory {
  var input: [Float] = []
  var gate: [Float] = []
  var up: [Float] = []
  /// All outputs of a linear that holds gate and up.
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
}
