package import NibbleTensor

/// Runs a block on a tape, as its shape says, so that the gradients of its parameters can be
/// computed. Whole sequences only.
package struct BlockTape {
  /// Why the gradient of a block is not known; nil if it is.
  package static func fault(_ shape: BlockShape) -> String? {
    if shape.mixer != nil { return "the gradient of a gated delta net is not known" }
    if shape.blockInput != nil { return "the gradient of a block's own input is not known" }
    if let attention = shape.attention, attention.carried != nil || attention.valuesAreKeys {
      return "the gradient of keys and values that blocks share is not known"
    }
    return nil
  }

  /// What a block computed.
  package struct Run {
    package let tape: Tape
    /// `[t, hidden]`: the hidden states behind the block.
    package let output: Tape.Node
    fileprivate let nodes: [BlockParameter: Tape.Node]
    fileprivate let input: Tape.Node

    /// The gradients, given that of the output.
    package func gradients(_ gradient: FloatRows) -> Gradients {
      let found = tape.gradients(of: output, gradient)
      return Gradients(
        parameters: nodes.compactMapValues { found[$0] }, states: found[input])
    }
  }

  package struct Gradients {
    /// Of the trained parameters.
    package let parameters: [BlockParameter: FloatRows]
    /// Of the hidden states that enter the block; nil unless they were trained.
    package let states: FloatRows?
  }

  private let block: Block
  private let arithmetic: BlockArithmetic
  private var tape: Tape
  private let parameters: [BlockParameter: FloatRows]
  private let inputs: [LinearID: InputRounding]
  private var nodes: [BlockParameter: Tape.Node] = [:]

  private init(
    _ block: Block, _ arithmetic: BlockArithmetic, _ parameters: [BlockParameter: FloatRows],
    _ inputs: [LinearID: InputRounding]
  ) {
    self.block = block
    self.arithmetic = arithmetic
    self.parameters = parameters
    self.inputs = inputs
    tape = Tape(on: arithmetic.compute)
  }

  /// - Parameters:
  ///   - states: `[t, hidden]`, one sequence from position 0.
  ///   - parameters: those that are trained, with the values to use; others are the block's.
  ///   - inputs: how linears round their inputs; others do not.
  ///   - trainsStates: whether the gradient of `states` is used.
  /// - Precondition: `fault` of the block's shape is nil.
  static func run(
    _ block: Block, on states: FloatRows, training parameters: [BlockParameter: FloatRows],
    roundingInputs inputs: [LinearID: InputRounding], trainsStates: Bool,
    _ arithmetic: BlockArithmetic
  ) -> Run {
    precondition(fault(block.shape) == nil, "\(block.shape.path) has no gradient")
    var run = BlockTape(block, arithmetic, parameters, inputs)
    let input = trainsStates ? run.tape.parameter(states) : run.tape.constant(states)
    let output = run.run(input)
    return Run(tape: run.tape, output: output, nodes: run.nodes, input: input)
  }

  private mutating func run(_ input: Tape.Node) -> Tape.Node {
    let shape = block.shape
    let isParallel = shape.residual == .parallel
    var states = input
    var joined: Tape.Node?
    for (index, branch) in shape.branches.enumerated() {
      let read = isParallel ? input : states
      let normed = branch.before.map { norm(read, $0) } ?? read
      if shape.addsToNormed { states = normed }
      var result: Tape.Node
      switch branch.body {
      case .attention(let attention): result = attend(normed, attention)
      case .feedForward(let unit): result = feed(normed, unit)
      case .experts(let experts):
        result = mix(normed, read, experts)
      case .mixer, .blockInput: preconditionFailure("\(shape.path) has no gradient")
      }
      if let inner = branch.inner { result = norm(result, inner) }
      guard !branch.joinsNext else {
        joined = result
        continue
      }
      if index > 0, shape.branches[index - 1].joinsNext, let joined {
        result = tape.apply(SumPrimitive(), result, joined)
      }
      if let after = branch.after { result = norm(result, after) }
      states = tape.apply(SumPrimitive(factor: branch.scale), states, result)
      if let closing = branch.closing { states = norm(states, closing) }
    }
    return block.factor == 1 ? states : tape.apply(ScalePrimitive(block.factor), states)
  }

  private mutating func node(_ parameter: BlockParameter) -> Tape.Node? {
    if let node = nodes[parameter] { return node }
    if let value = parameters[parameter] {
      let node = tape.parameter(value)
      nodes[parameter] = node
      return node
    }
    if case .weight(let id) = parameter, let codes = block.linears[id]?.weight.codes,
      parameters[.scales(id)] != nil, let scales = node(.scales(id))
    {
      return tape.apply(ScalesPrimitive(codes), scales)
    }
    guard let value = block.value(of: parameter, on: tape.compute) else { return nil }
    return tape.constant(value)
  }

  private mutating func norm(_ x: Tape.Node, _ shape: NormShape) -> Tape.Node {
    let primitive = NormPrimitive(centers: shape.kind == .layer, epsilon: shape.epsilon)
    guard let weight = node(.norm(shape.path)) else {
      preconditionFailure("the block has no \(shape.path)")
    }
    guard let bias = node(.normBias(shape.path)) else { return tape.apply(primitive, x, weight) }
    return tape.apply(primitive, x, weight, bias)
  }

  /// Norms of queries, keys or values by head.
  private mutating func norm(_ x: Tape.Node, by norms: [Norm]) -> Tape.Node {
    guard let shape = norms.first?.shape else { return x }
    let weights = tape.constant(FloatRows(norms.flatMap(\.weight), columns: shape.width))
    return tape.apply(
      NormPrimitive(centers: shape.kind == .layer, epsilon: shape.epsilon), x, weights)
  }

  /// The input of some linears as they round it. They read the same site, and round alike.
  private mutating func rounded(_ x: Tape.Node, for linears: [LinearShape]) -> Tape.Node {
    guard let rounding = linears.compactMap({ inputs[$0.id] }).first else { return x }
    return tape.apply(InputRoundingPrimitive(rounding), x)
  }

  private mutating func apply(
    _ linear: LinearShape, _ x: Tape.Node, rounded: Tape.Node
  ) -> Tape.Node {
    guard let weight = node(.weight(linear.id)) else {
      preconditionFailure("the block has no \(linear.id)")
    }
    let y = tape.apply(LinearPrimitive(), inputs[linear.id] == nil ? x : rounded, weight)
    guard let bias = node(.bias(linear.id)) else { return y }
    return tape.apply(BiasPrimitive(), y, bias)
  }

  private mutating func apply(_ linear: LinearShape, _ x: Tape.Node) -> Tape.Node {
    apply(linear, x, rounded: rounded(x, for: [linear]))
  }

  /// The output of each role that some linears have, which read the same input.
  private mutating func apply(
    _ linears: [LinearShape], _ x: Tape.Node
  ) -> [Role: Tape.Node] {
    var outputs: [Role: Tape.Node] = [:]
    let rounded = rounded(x, for: linears)
    for linear in linears {
      let y = apply(linear, x, rounded: rounded)
      for part in linear.parts {
        outputs[part.role] =
          part.rows == [0..<linear.outputs] ? y : tape.apply(ColumnsPrimitive(part.rows), y)
      }
    }
    return outputs
  }

  private mutating func attend(_ x: Tape.Node, _ shape: AttentionShape) -> Tape.Node {
    let outputs = apply(shape.inputs, x)
    guard var q = outputs[.query], var k = outputs[.key], var v = outputs[.value] else {
      preconditionFailure("\(block.shape.path) has no query, key or value")
    }
    q = norm(q, by: block.queryNorms)
    k = norm(k, by: block.keyNorms)
    v = norm(v, by: block.valueNorms)
    if let rotary = shape.rotary, let table = arithmetic.rotary[rotary] {
      q = tape.apply(RotaryPrimitive(table, heads: shape.core.heads), q)
      k = tape.apply(RotaryPrimitive(table, heads: shape.core.keyHeads), k)
    }
    let primitive = AttentionPrimitive(shape.core)
    var attended: Tape.Node
    if let sinks = block.sinks {
      attended = tape.apply(
        primitive, q, k, v, tape.constant(FloatRows(sinks, columns: sinks.count)))
    } else {
      attended = tape.apply(primitive, q, k, v)
    }
    if let gate = outputs[.outputGate] {
      attended = tape.apply(SigmoidGatePrimitive(), gate, attended)
    }
    return apply(shape.output, attended)
  }

  private mutating func feed(_ x: Tape.Node, _ unit: FeedForwardShape) -> Tape.Node {
    let outputs = apply(unit.inputs, x)
    guard let up = outputs[.up] else { preconditionFailure("\(unit.down.id) has no up") }
    let gated: Tape.Node
    if let gate = outputs[.gate], unit.isGated {
      if let clamp = unit.clamp {
        gated = tape.apply(ClampedGatePrimitive(limit: clamp.limit, slope: clamp.slope), gate, up)
      } else {
        gated = tape.apply(GatePrimitive(unit.activation), gate, up)
      }
    } else {
      gated = tape.apply(GatePrimitive(unit.activation), up)
    }
    return apply(unit.down, gated)
  }

  /// Experts, with the router's choice and shares as constants.
  ///
  /// - Parameter read: the states that the branch reads, before its norm.
  private mutating func mix(
    _ x: Tape.Node, _ read: Tape.Node, _ experts: ExpertsShape
  ) -> Tape.Node {
    var routed = tape[x].values
    if let norm = block.routerNorm { arithmetic.norm(tape[read].values, norm, into: &routed) }
    let tokens = tape[x].rows
    var scores = [Float](repeating: 0, count: tokens * experts.units.count)
    var result = tape.constant(
      FloatRows([Float](repeating: 0, count: tape[x].values.count), columns: tape[x].columns))
    for portion in arithmetic.route(block, experts, routed, scores: &scores) {
      let rows = tape.apply(GatherPrimitive(portion.rows), x)
      let output = feed(rows, experts.units[portion.expert])
      result = tape.apply(
        ScatterPrimitive(portion.rows, times: portion.shares), result, output)
    }
    guard let shared = experts.shared else { return result }
    var output = feed(x, shared.unit)
    if let gate = shared.gate {
      output = tape.apply(SigmoidGatePrimitive(), apply(gate, x), output)
    }
    return tape.apply(SumPrimitive(), result, output)
  }
}

extension ForwardPass {
  /// Runs a block on a tape. See `BlockTape`.
  package func record(
    _ block: Block, on states: [Float], training parameters: [BlockParameter: FloatRows],
    roundingInputs inputs: [LinearID: InputRounding] = [:], trainsStates: Bool = false
  ) -> BlockTape.Run {
    BlockTape.run(
      block, on: FloatRows(states, columns: shape.hidden), training: parameters,
      roundingInputs: inputs, trainsStates: trainsStates, arithmetic)
  }
}
