import NibbleTensor

/// The steps of a block over arrays.
///
/// Apart from `ForwardPass` and its memory: a method of the owner of an array that is passed `inout`
/// would hold a second reference to it, and every step would copy what it overwrites.
struct BlockArithmetic: Sendable {
  let config: DecoderConfig
  let compute: Compute
  let rotary: RotaryTable

  func norm(_ states: [Float], _ norm: Norm, into y: inout [Float]) {
    var out = y.mutableSpan
    compute.rmsNorm(
      states.span, weight: norm.weight.span, epsilon: config.normEpsilon, into: &out)
    if let bias = norm.bias { compute.addBias(bias.span, to: &out) }
  }

  func apply(_ block: Block, _ role: Role, _ x: [Float], into y: inout [Float]) {
    let linear = linear(block, role)
    var out = y.mutableSpan
    linear.prepared.multiply(x.span, into: &out, on: compute)
    if let bias = linear.bias { compute.addBias(bias.span, to: &out) }
  }

  func project(
    _ block: Block, _ x: [Float], intoQueries queries: inout [Float], keys: inout [Float],
    values: inout [Float]
  ) {
    let linears = (linear(block, .query), linear(block, .key), linear(block, .value))
    var q = queries.mutableSpan
    var k = keys.mutableSpan
    var v = values.mutableSpan
    PreparedWeight.multiply(
      x.span, by: (linears.0.prepared, linears.1.prepared, linears.2.prepared), into: &q, &k, &v,
      on: compute)
    if let bias = linears.0.bias { compute.addBias(bias.span, to: &q) }
    if let bias = linears.1.bias { compute.addBias(bias.span, to: &k) }
    if let bias = linears.2.bias { compute.addBias(bias.span, to: &v) }
  }

  /// Gate, up and down at once; false, and nothing happens, when they must run one by one.
  func feedForward(_ block: Block, _ x: [Float], into y: inout [Float]) -> Bool {
    let linears = (linear(block, .gate), linear(block, .up), linear(block, .down))
    let (gate, up, down) = (linears.0.prepared, linears.1.prepared, linears.2.prepared)
    guard linears.0.bias == nil, linears.1.bias == nil,
      compute.runsFeedForward(gate, up, down, tokens: x.count / config.hidden)
    else { return false }
    var out = y.mutableSpan
    compute.feedForward(x.span, gate: gate, up: up, down: down, into: &out)
    if let bias = linears.2.bias { compute.addBias(bias.span, to: &out) }
    return true
  }

  private func linear(_ block: Block, _ role: Role) -> Block.Linear {
    guard let linear = block.linears[role] else {
      preconditionFailure("the block has no \(role)")
    }
    return linear
  }

  /// `silu(gate) · up` into `gate`.
  func gate(_ block: Block, _ x: [Float], into gate: inout [Float], up: inout [Float]) {
    let linears = (linear(block, .gate), linear(block, .up))
    var g = gate.mutableSpan
    if linears.0.bias == nil, linears.1.bias == nil,
      compute.runsGated(
        linears.0.prepared, linears.1.prepared, tokens: x.count / config.hidden)
    {
      compute.gated(x.span, gate: linears.0.prepared, up: linears.1.prepared, into: &g)
      return
    }
    var u = up.mutableSpan
    PreparedWeight.multiply(
      x.span, by: (linears.0.prepared, linears.1.prepared), into: &g, &u, on: compute)
    if let bias = linears.0.bias { compute.addBias(bias.span, to: &g) }
    if let bias = linears.1.bias { compute.addBias(bias.span, to: &u) }
    compute.siluMultiply(&g, by: u.span)
  }

  func add(_ x: [Float], to states: inout [Float]) {
    var out = states.mutableSpan
    compute.add(x.span, to: &out)
  }

  func rotate(_ x: inout [Float], heads: Int, from position: Int) {
    var out = x.mutableSpan
    rotary.rotate(&out, heads: heads, from: position, on: compute)
  }

  func attend(
    _ store: KeyValueStore, from position: Int, _ queries: [Float], keys: [Float],
    values: [Float], into y: inout [Float]
  ) {
    store.store(keys: keys.span, values: values.span, at: position, on: compute)
    var out = y.mutableSpan
    config.attention.attend(queries.span, store, from: position, into: &out, on: compute)
  }
}
