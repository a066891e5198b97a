import NibbleTensor

/// The steps of a block over arrays.
///
/// Apart from `ForwardPass` and its memory: a method of the owner of an array that is passed `inout`
/// would hold a second reference to it, and every step would copy what it overwrites.
struct BlockArithmetic: Sendable {
  let config: DecoderConfig
  let compute: Compute
  let rotary: RotaryTable

  func norm(_ states: [Float], _ weight: [Float], into y: inout [Float]) {
    var out = y.mutableSpan
    compute.rmsNorm(states.span, weight: weight.span, epsilon: config.normEpsilon, into: &out)
  }

  func apply(_ block: Block, _ role: Role, _ x: [Float], into y: inout [Float]) {
    guard let linear = block.linears[role] else {
      preconditionFailure("the block has no \(role)")
    }
    var out = y.mutableSpan
    linear.weight.multiply(x.span, into: &out, on: compute)
    if let bias = linear.bias { compute.addBias(bias.span, to: &out) }
  }

  func multiply(_ gate: inout [Float], afterSiLUBy up: [Float]) {
    var out = gate.mutableSpan
    compute.siluMultiply(&out, by: up.span)
  }

  func add(_ x: [Float], to states: inout [Float]) {
    var out = states.mutableSpan
    compute.add(x.span, to: &out)
  }

  func rotate(_ x: inout [Float], heads: Int, from position: Int) {
    var out = x.mutableSpan
    rotary.rotate(&out, heads: heads, from: position, on: compute)
  }

  func store(
    _ rows: [Float], at position: Int, capacity: Int, in store: inout [Float]
  ) {
    var out = store.mutableSpan
    config.attention.store(rows.span, at: position, capacity: capacity, in: &out)
  }

  func attend(
    _ layer: KeyValueCache.Layer, from position: Int, capacity: Int, _ queries: [Float],
    into y: inout [Float]
  ) {
    var out = y.mutableSpan
    config.attention.attend(
      queries.span, keys: layer.keys.span, values: layer.values.span, capacity: capacity,
      from: position, into: &out, on: compute)
  }
}
