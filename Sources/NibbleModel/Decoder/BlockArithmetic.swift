import NibbleTensor

/// The operations of a block, on arrays.
///
/// Separate from `ForwardPass`, which owns the arrays: a method of the owner that takes one of its
/// arrays `inout` would hold a second reference, and every operation would copy that array.
struct BlockArithmetic: Sendable {
  let compute: Compute
  /// One table per rotary embedding that occurs among the blocks.
  let rotary: [RotaryShape: RotaryTable]

  init(_ shape: DecoderShape, positions: Int, on compute: Compute) {
    self.compute = compute
    rotary = Dictionary(
      uniqueKeysWithValues: Set(shape.attentions.compactMap(\.rotary)).map {
        ($0, $0.table(positions: positions))
      })
  }

  func norm(_ states: [Float], _ norm: Norm, into y: inout [Float]) {
    compute.norm(states, by: norm, into: &y)
  }

  /// Normalizes queries or keys `[t, heads · d]` in place.
  func norm(_ x: inout [Float], by norms: [Norm]) {
    guard let first = norms.first else { return }
    var out = x.mutableSpan
    let isLayer = first.shape.kind == .layer
    guard norms.count > 1 else {
      compute.normalize(
        &out, centers: isLayer, weight: first.weight.span, epsilon: first.shape.epsilon)
      return
    }
    let ones = [Float](repeating: 1, count: first.shape.width)
    compute.normalize(&out, centers: isLayer, weight: ones.span, epsilon: first.shape.epsilon)
    let weights = norms.flatMap { $0.weight }
    compute.multiplyRows(&out, by: weights.span)
  }

  func apply(_ block: Block, _ linear: LinearShape, _ x: [Float], into y: inout [Float]) {
    let linear = self.linear(block, linear)
    var out = y.mutableSpan
    linear.prepared.multiply(x.span, into: &out, on: compute)
    if let bias = linear.bias { compute.addBias(bias.span, to: &out) }
  }

  /// Computes query, key and value of the input `[t, k]`.
  ///
  /// - Parameter fused: scratch for the outputs of a fused linear; `[t, outputs]` at its start.
  func project(
    _ block: Block, _ shape: AttentionShape, _ x: [Float], intoQueries queries: inout [Float],
    keys: inout [Float], values: inout [Float], gate: inout [Float], fused: inout [Float]
  ) {
    guard shape.inputs.count == 3, shape.inputs.allSatisfy({ $0.role != nil }) else {
      for linear in shape.inputs {
        let isFused = linear.role == nil
        if isFused { applyFused(block, linear, x, into: &fused) }
        func fill(_ role: Role, into y: inout [Float]) {
          guard linear.part(role) != nil else { return }
          if isFused {
            take(role, of: linear, fused, x, into: &y)
          } else {
            apply(block, linear, x, into: &y)
          }
        }
        fill(.query, into: &queries)
        fill(.key, into: &keys)
        fill(.value, into: &values)
        fill(.outputGate, into: &gate)
      }
      return
    }
    let linears = (
      linear(block, shape.inputs[0]), linear(block, shape.inputs[1]), linear(block, shape.inputs[2])
    )
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

  private func applyFused(
    _ block: Block, _ shape: LinearShape, _ x: [Float], into fused: inout [Float]
  ) {
    let linear = linear(block, shape)
    let count = x.count / shape.inputs * shape.outputs
    var whole = fused.mutableSpan
    var out = whole._mutatingExtracting(first: count)
    linear.prepared.multiply(x.span, into: &out, on: compute)
    if let bias = linear.bias { compute.addBias(bias.span, to: &out) }
  }

  private func take(
    _ role: Role, of shape: LinearShape, _ fused: [Float], _ x: [Float], into y: inout [Float]
  ) {
    guard let part = shape.part(role) else { preconditionFailure("\(shape.id) has no \(role)") }
    var out = y.mutableSpan
    compute.take(
      part.rows, of: fused.span.extracting(first: x.count / shape.inputs * shape.outputs),
      width: shape.outputs, into: &out)
  }

  /// Runs gate, up and down in one pass. Returns false, with `y` untouched, if the one-pass kernel
  /// does not cover this unit.
  func feedForward(
    _ block: Block, _ shape: FeedForwardShape, _ x: [Float], into y: inout [Float]
  ) -> Bool {
    guard shape.isSiLUGated, shape.inputs.count == 2 else { return false }
    let linears = (
      linear(block, shape.inputs[0]), linear(block, shape.inputs[1]), linear(block, shape.down)
    )
    let (gate, up, down) = (linears.0.prepared, linears.1.prepared, linears.2.prepared)
    guard linears.0.bias == nil, linears.1.bias == nil,
      compute.runsFeedForward(gate, up, down, tokens: x.count / shape.inputs[0].inputs)
    else { return false }
    var out = y.mutableSpan
    compute.feedForward(x.span, gate: gate, up: up, down: down, into: &out)
    if let bias = linears.2.bias { compute.addBias(bias.span, to: &out) }
    return true
  }

  private func linear(_ block: Block, _ shape: LinearShape) -> Block.Linear {
    guard let linear = block.linears[shape.id] else {
      preconditionFailure("the block has no \(shape.id)")
    }
    return linear
  }

  /// Computes the input of down, `act(gate) · up` or `act(up)`, into `gate`.
  func gate(
    _ block: Block, _ shape: FeedForwardShape, _ x: [Float], into gate: inout [Float],
    up: inout [Float], fused: inout [Float]
  ) {
    guard shape.isGated else {
      apply(block, shape.inputs[0], x, into: &gate)
      var out = gate.mutableSpan
      compute.activate(&out, shape.activation)
      return
    }
    if shape.inputs.count == 2 {
      let linears = (linear(block, shape.inputs[0]), linear(block, shape.inputs[1]))
      var g = gate.mutableSpan
      if shape.isSiLUGated, linears.0.bias == nil, linears.1.bias == nil,
        compute.runsGated(
          linears.0.prepared, linears.1.prepared, tokens: x.count / shape.inputs[0].inputs)
      {
        compute.gated(x.span, gate: linears.0.prepared, up: linears.1.prepared, into: &g)
        return
      }
      var u = up.mutableSpan
      PreparedWeight.multiply(
        x.span, by: (linears.0.prepared, linears.1.prepared), into: &g, &u, on: compute)
      if let bias = linears.0.bias { compute.addBias(bias.span, to: &g) }
      if let bias = linears.1.bias { compute.addBias(bias.span, to: &u) }
    } else {
      applyFused(block, shape.inputs[0], x, into: &fused)
      take(.gate, of: shape.inputs[0], fused, x, into: &gate)
      take(.up, of: shape.inputs[0], fused, x, into: &up)
    }
    var g = gate.mutableSpan
    if let clamp = shape.clamp {
      compute.clampedGate(&g, by: up.span, limit: clamp.limit, slope: clamp.slope)
    } else if shape.isSiLUGated {
      compute.siluMultiply(&g, by: up.span)
    } else {
      compute.activate(&g, shape.activation)
      compute.multiply(&g, by: up.span)
    }
  }

  /// Multiplies the result of attention by `sigmoid(gate)`.
  ///
  /// - Parameter gate: overwritten.
  func applyGate(_ gate: inout [Float], to y: inout [Float]) {
    var factors = gate.mutableSpan
    compute.sigmoid(&factors)
    multiply(&y, by: gate)
  }

  /// `gate = act(gate x) · input`, for a block's own input.
  func gate(
    _ block: Block, _ shape: BlockInputShape, _ x: [Float], input: [Float],
    into gate: inout [Float]
  ) {
    apply(block, shape.gate, x, into: &gate)
    activate(&gate, shape.activation)
    multiply(&gate, by: input)
  }

  private func activate(_ x: inout [Float], _ activation: Activation) {
    var out = x.mutableSpan
    compute.activate(&out, activation)
  }

  private func multiply(_ y: inout [Float], by x: [Float]) {
    var out = y.mutableSpan
    compute.multiply(&out, by: x.span)
  }

  /// Convolution and recurrence of a mixer: its result `[t, valueWidth]` before norm and gate.
  ///
  /// - Parameter convolved: scratch, `[t, channels]`.
  func recur(
    _ block: Block, _ mixer: MixerShape, _ state: DeltaNetState, mixed: [Float],
    convolved: inout [Float], strengths: [Float], steps: [Float], into y: inout [Float]
  ) {
    guard let net = block.net else { preconditionFailure("\(block.shape.path) has no mixer") }
    var rows = convolved.mutableSpan
    var out = y.mutableSpan
    mixer.core.convolve(mixed.span, net, state, into: &rows, on: compute)
    mixer.core.recur(
      &rows, strengths: strengths.span, steps: steps.span, net, state, into: &out, on: compute)
  }

  /// `y = norm(y) · silu(gate)` for each head of a mixer's result.
  ///
  /// - Parameter gate: overwritten.
  func finish(_ gate: inout [Float], norm: Norm, _ y: inout [Float]) {
    self.norm(&y, by: [norm])
    var factors = gate.mutableSpan
    compute.activate(&factors, .silu)
    multiply(&y, by: gate)
  }

  func add(_ x: [Float], to states: inout [Float]) {
    var out = states.mutableSpan
    compute.add(x.span, to: &out)
  }

  func clear(_ x: inout [Float]) {
    var out = x.mutableSpan
    out.update(repeating: 0)
  }

  func scale(_ x: inout [Float], by factor: Float) {
    var out = x.mutableSpan
    compute.scale(&out, by: factor)
  }

  func rotate(_ x: inout [Float], _ shape: AttentionShape, heads: Int, from position: Int) {
    guard let rotary = shape.rotary, let table = self.rotary[rotary] else { return }
    var out = x.mutableSpan
    table.rotate(&out, heads: heads, headSize: shape.core.headSize, from: position, on: compute)
  }

  func store(
    keys: [Float], values: [Float], in store: KeyValueStore, at position: Int
  ) {
    store.store(keys: keys.span, values: values.span, at: position, on: compute)
  }

  func attend(
    _ block: Block, _ shape: AttentionShape, _ store: KeyValueStore, from position: Int,
    _ queries: [Float], keys: [Float], values: [Float],
    into y: inout [Float]
  ) {
    var out = y.mutableSpan
    shape.core.attend(
      queries.span, store, from: position, keys: keys.span, values: values.span,
      sinks: block.sinks, into: &out, on: compute)
  }
}
