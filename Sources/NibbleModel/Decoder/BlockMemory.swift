import NibbleTensor

/// Intermediate results of one block, kept from block to block so that none is allocated twice.
struct BlockMemory {
  var normed: [Float] = []
  var queries: [Float] = []
  var keys: [Float] = []
  var values: [Float] = []
  var attended: [Float] = []
  var gate: [Float] = []
  var up: [Float] = []
  var result: [Float] = []
  /// Keys and values of a whole sequence that nobody continues.
  private var store: KeyValueStore?

  mutating func resize(tokens: Int, _ config: DecoderConfig) {
    guard normed.count != tokens * config.hidden else { return }
    let queryWidth = config.attention.heads * config.attention.headSize
    let keyWidth = config.attention.keyHeads * config.attention.headSize
    normed = [Float](repeating: 0, count: tokens * config.hidden)
    queries = [Float](repeating: 0, count: tokens * queryWidth)
    keys = [Float](repeating: 0, count: tokens * keyWidth)
    values = keys
    attended = queries
    gate = [Float](repeating: 0, count: tokens * config.intermediate)
    up = gate
    result = normed
  }

  /// The store of a whole sequence; what it held is overwritten.
  mutating func sequenceStore(tokens: Int, _ attention: Attention) -> KeyValueStore {
    // A copy of this memory has the same store until one of the two writes.
    if isKnownUniquelyReferenced(&self.store), let store, store.capacity == tokens { return store }
    let new = KeyValueStore(attention, capacity: tokens)
    store = new
    return new
  }
}
