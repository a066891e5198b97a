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
}
