public import NibbleTensor

/// Runs blocks on hidden states `[t, hidden]`. Owns the memory of intermediate results.
public struct ForwardPass: Sendable {
  let arithmetic: BlockArithmetic
  var memory = BlockMemory()
  /// Whether `watch` receives the activations of all tokens at every expert. The results are
  /// unchanged: only the tokens that the router sends to an expert count.
  public var showsAllTokens = false

  public let shape: DecoderShape
  public var compute: Compute { arithmetic.compute }

  /// - Parameter positions: the largest number of positions in a sequence.
  public init(_ shape: DecoderShape, positions: Int, on compute: Compute) throws(ModelError) {
    if let learned = shape.embedding.positions, positions > learned.rows - learned.offset {
      throw .tooManyTokens(
        positions, limit: learned.rows - learned.offset, what: "the model has positions for")
    }
    self.shape = shape
    arithmetic = BlockArithmetic(shape, positions: positions, on: compute)
  }

  /// Runs the branches of a block, `x = x + body(norm(x))` each, as its shape says.
  ///
  /// - Parameters:
  ///   - states: `[t, hidden]`: tokens of one sequence from `position` on; overwritten. Carried
  ///     values follow them.
  ///   - store: KV cache or state of the tokens before `position`; receives those of `states`.
  public mutating func run(
    _ block: Block, on states: inout [Float], from position: Int, keeping store: BlockStore
  ) {
    run(block, on: &states, from: position, keeping: store, as: .states) { _, _ in }
  }

  /// Runs a block on a whole sequence and calls `watch` with the input `[t, k]` of each site's
  /// linears. `watch` must not keep the array, or the next block copies it.
  ///
  /// - Parameter isLast: whether the hidden states after this block are unused, so its last product
  ///   is skipped.
  public mutating func run(
    _ block: Block, on states: inout [Float], isLast: Bool = false,
    watch: (Site, _ activation: [Float]) -> Void
  ) {
    let store = sequenceStore(of: block.shape, tokens: states.count / shape.stateWidth)
    run(block, on: &states, from: 0, keeping: store, as: isLast ? .last : .watched, watch: watch)
  }

  /// What the caller needs: the hidden states, also the activations, or the activations of the last
  /// block.
  enum Purpose { case states, watched, last }

  private mutating func run(
    _ block: Block, on states: inout [Float], from position: Int,
    keeping store: BlockStore, as purpose: Purpose, watch: (Site, [Float]) -> Void
  ) {
    take(&states, block)
    defer { memory.returnCarried(to: &states) }
    let branches = block.shape.branches
    let isParallel = block.shape.residual == .parallel
    if isParallel { memory.input = states }
    for (index, branch) in branches.enumerated() {
      // Two parallel branches with the same norm compute it once.
      let isRead = isParallel && index > 0 && branch.before == branches[0].before
      if !isRead { read(branch, of: block, isParallel ? memory.input : states) }
      if block.shape.addsToNormed { states = memory.normed }
      switch branch.body {
      case .attention(let attention):
        attend(block, attention, from: position, keeping: store)
        watch(.attention, memory.normed)
        watch(.output, memory.attended)
        arithmetic.apply(block, attention.output, memory.attended, into: &memory.result)
      case .mixer(let mixer):
        mix(block, mixer, from: position, keeping: store)
        watch(.attention, memory.normed)
        watch(.output, memory.attended)
        arithmetic.apply(block, mixer.output, memory.attended, into: &memory.result)
      case .blockInput(let input):
        watch(.blockInput, memory.normed)
        gate(block, input)
        watch(.blockInputOutput, memory.expert.gate)
        if purpose == .last, index == branches.count - 1 { return }
        arithmetic.apply(block, input.output, memory.expert.gate, into: &memory.result)
      case .feedForward(let unit):
        if !isRead { watch(.feedForward, memory.normed) }
        if purpose != .states
          || !arithmetic.feedForward(block, unit, memory.normed, into: &memory.result)
        {
          gate(block, unit)
          watch(.down, memory.gate)
          if purpose == .last, index == branches.count - 1 { return }
          arithmetic.apply(block, unit.down, memory.gate, into: &memory.result)
        }
      case .experts(let experts):
        if !isRead { watch(block.shape.expertsInput, memory.normed) }
        mix(block, experts, as: purpose, watch: watch)
        if purpose == .last, index == branches.count - 1 { return }
      }
      end(index, of: block, &states)
    }
  }

  /// Splits the carried values from the hidden states, and fits the memory to the tokens.
  private mutating func take(_ states: inout [Float], _ block: Block) {
    let tokens = states.count / shape.stateWidth
    memory.takeCarried(&states, behind: tokens * shape.hidden)
    memory.resize(tokens: tokens, block.shape, hidden: shape.hidden)
  }

  /// Computes the input of the output projection of a block's own input, into `memory.expert.gate`.
  private mutating func gate(_ block: Block, _ shape: BlockInputShape) {
    let tokens = memory.normed.count / shape.gate.inputs
    let input = memory.carried[
      shape.columns.lowerBound * tokens..<shape.columns.upperBound * tokens]
    memory.expert.resize(tokens: tokens, shape)
    arithmetic.gate(
      block, shape, memory.normed, input: Array(input), into: &memory.expert.gate)
  }

  /// Computes the input of a branch into `memory.normed`.
  private mutating func read(_ branch: BlockShape.Branch, of block: Block, _ states: [Float]) {
    if let norm = branch.before {
      arithmetic.norm(states, self.norm(norm, of: block), into: &memory.normed)
    } else {
      memory.normed = states
    }
    if case .experts = branch.body, let norm = block.routerNorm {
      arithmetic.norm(states, norm, into: &memory.routed)
    }
  }

  /// Adds the result of a branch, `memory.result`, to the hidden states, or keeps it for the next
  /// branch, which it joins.
  private mutating func end(_ index: Int, of block: Block, _ states: inout [Float]) {
    let branch = block.shape.branches[index]
    if let norm = branch.inner {
      arithmetic.norm(memory.result, self.norm(norm, of: block), into: &memory.ended)
      swap(&memory.result, &memory.ended)
    }
    guard !branch.joinsNext else {
      memory.joined = memory.result
      return
    }
    if index > 0, block.shape.branches[index - 1].joinsNext {
      arithmetic.add(memory.joined, to: &memory.result)
    }
    if let norm = branch.after {
      arithmetic.norm(memory.result, self.norm(norm, of: block), into: &memory.ended)
      swap(&memory.result, &memory.ended)
    }
    if branch.scale != 1 { arithmetic.scale(&memory.result, by: branch.scale) }
    arithmetic.add(memory.result, to: &states)
    if let norm = branch.closing {
      arithmetic.norm(states, self.norm(norm, of: block), into: &memory.ended)
      swap(&states, &memory.ended)
    }
    if block.factor != 1, index == block.shape.branches.count - 1 {
      arithmetic.scale(&states, by: block.factor)
    }
  }

  private func norm(_ shape: NormShape, of block: Block) -> Norm {
    guard let norm = block.norms[shape.path] else {
      preconditionFailure("the block has no \(shape.path)")
    }
    return norm
  }

  /// The activation `[t, k]` of a site, computed for a whole sequence.
  ///
  /// - Parameter states: `[t, hidden]`: the hidden states at the input of the site's branch, or of
  ///   the block if its branches are parallel. Carried values follow them.
  public mutating func activation(
    at site: SiteShape, of block: Block, _ states: [Float]
  ) -> [Float] {
    let tokens = states.count / shape.stateWidth
    var states = states
    take(&states, block)
    let branch = block.shape.branches[site.branch]
    read(branch, of: block, states)
    guard site.place != .input else { return memory.normed }
    switch branch.body {
    case .attention(let attention):
      attend(block, attention, from: 0, keeping: sequenceStore(of: block.shape, tokens: tokens))
      return memory.attended
    case .mixer(let mixer):
      mix(block, mixer, from: 0, keeping: sequenceStore(of: block.shape, tokens: tokens))
      return memory.attended
    case .feedForward(let unit):
      gate(block, unit)
      return memory.gate
    case .experts(let experts): return activation(at: site, block, experts)
    case .blockInput(let input):
      gate(block, input)
      return memory.expert.gate
    }
  }

  /// Rotated keys and values `[t, keyHeads · d]` of the most recent attention.
  public var keysAndValues: (keys: [Float], values: [Float]) { (memory.keys, memory.values) }

  /// Finishes the branch of a site: applies its last linear to `activation` and adds the result to
  /// `states`.
  ///
  /// - Parameter activation: input of the branch's last linear. Unused for experts, which run
  ///   again.
  public mutating func endBranch(
    of site: SiteShape, _ block: Block, _ activation: [Float], on states: inout [Float]
  ) {
    precondition(site.endsBranch, "\(site.site) ends no branch")
    take(&states, block)
    defer { memory.returnCarried(to: &states) }
    let branch = block.shape.branches[site.branch]
    runJoined(to: site, block, &states)
    if case .attention(let attention) = branch.body, attention.carried != nil {
      // Later blocks read its keys and values.
      read(branch, of: block, states)
      let tokens = states.count / shape.hidden
      attend(block, attention, from: 0, keeping: sequenceStore(of: block.shape, tokens: tokens))
    }
    let experts: ExpertsShape? = if case .experts(let shape) = branch.body { shape } else { nil }
    if block.shape.addsToNormed || experts != nil { read(branch, of: block, states) }
    if block.shape.addsToNormed { states = memory.normed }
    if let experts {
      mix(block, experts, as: .states) { _, _ in }
    } else {
      arithmetic.apply(block, site.linears[0], activation, into: &memory.result)
    }
    end(site.branch, of: block, &states)
  }

  /// Runs the branch before a site's, if it joins that one.
  private mutating func runJoined(to site: SiteShape, _ block: Block, _ states: inout [Float]) {
    let index = site.branch - 1
    guard index >= 0, block.shape.branches[index].joinsNext else { return }
    let branch = block.shape.branches[index]
    guard case .feedForward(let unit) = branch.body else {
      preconditionFailure("only a feed-forward unit joins another branch")
    }
    read(branch, of: block, states)
    if !arithmetic.feedForward(block, unit, memory.normed, into: &memory.result) {
      gate(block, unit)
      arithmetic.apply(block, unit.down, memory.gate, into: &memory.result)
    }
    end(index, of: block, &states)
  }

  /// A store for a whole sequence, which the next sequence overwrites.
  public mutating func sequenceStore(of block: BlockShape, tokens: Int) -> BlockStore {
    if let attention = block.attention {
      return .keysAndValues(memory.sequenceStore(tokens: tokens, attention.core))
    }
    guard let mixer = block.mixer else {
      preconditionFailure("\(block.path) has neither attention nor a mixer")
    }
    return .state(DeltaNetState(mixer.core))
  }

  /// Computes query, key, value and attention of `memory.normed`, into `memory.attended`.
  private mutating func attend(
    _ block: Block, _ attention: AttentionShape, from position: Int, keeping store: BlockStore
  ) {
    let run = arithmetic
    run.project(
      block, attention, memory.normed, intoQueries: &memory.queries, keys: &memory.keys,
      values: &memory.values, gate: &memory.outputGate, fused: &memory.fused)
    run.norm(&memory.queries, by: block.queryNorms)
    run.rotate(&memory.queries, attention, heads: attention.core.heads, from: position)
    if attention.sharesCacheOf == nil {
      if attention.valuesAreKeys { memory.values = memory.keys }
      run.norm(&memory.keys, by: block.keyNorms)
      run.norm(&memory.values, by: block.valueNorms)
      run.rotate(&memory.keys, attention, heads: attention.core.keyHeads, from: position)
    }
    if let columns = attention.carried { carry(columns, isSource: attention.sharesCacheOf == nil) }
    let kept: KeyValueStore
    switch store {
    case .shared(let store): kept = store
    case .keysAndValues(let store):
      kept = store
      run.store(keys: memory.keys, values: memory.values, in: store, at: position)
    case .state: preconditionFailure("\(block.shape.path) needs a KV cache")
    }
    run.attend(
      block, attention, kept, from: position, memory.queries, keys: memory.keys,
      values: memory.values, into: &memory.attended)
    if attention.isGated { run.applyGate(&memory.outputGate, to: &memory.attended) }
  }

  /// Copies keys and values to the carried values, or back in a block that shares them.
  private mutating func carry(_ columns: Range<Int>, isSource: Bool) {
    let count = memory.keys.count
    let tokens = 2 * count / columns.count
    let (first, second) = (columns.lowerBound * tokens, columns.lowerBound * tokens + count)
    if isSource {
      memory.carried.replaceSubrange(first..<second, with: memory.keys)
      memory.carried.replaceSubrange(second..<second + count, with: memory.values)
    } else {
      memory.keys = Array(memory.carried[first..<second])
      memory.values = Array(memory.carried[second..<second + count])
    }
  }

  /// Runs a mixer on `memory.normed`, into `memory.attended`: the input of its output projection.
  private mutating func mix(
    _ block: Block, _ mixer: MixerShape, from position: Int, keeping store: BlockStore
  ) {
    guard case .state(let state) = store else {
      preconditionFailure("\(block.shape.path) needs a state")
    }
    if position == 0 { state.clear() }
    let run = arithmetic
    run.apply(block, mixer.mixed, memory.normed, into: &memory.mixed)
    run.apply(block, mixer.gate, memory.normed, into: &memory.outputGate)
    run.apply(block, mixer.strength, memory.normed, into: &memory.strengths)
    run.apply(block, mixer.step, memory.normed, into: &memory.steps)
    run.recur(
      block, mixer, state, mixed: memory.mixed, convolved: &memory.convolved,
      strengths: memory.strengths, steps: memory.steps, into: &memory.attended)
    run.finish(&memory.outputGate, norm: norm(mixer.norm, of: block), &memory.attended)
  }

  /// Computes the input of down from `memory.normed`, into `memory.gate`.
  private mutating func gate(_ block: Block, _ unit: FeedForwardShape) {
    arithmetic.gate(
      block, unit, memory.normed, into: &memory.gate, up: &memory.up, fused: &memory.fused)
  }

  /// Logits `[t, vocabulary]` of the hidden states after the last block.
  public func logits(_ states: [Float], _ head: OutputHead, into logits: inout [Float]) {
    var out = logits.mutableSpan
    let input = input(of: head, states)
    head.weight.multiply(input.span, into: &out, on: compute)
    if let cap = head.shape.softCap { compute.cap(&out, at: cap) }
  }

  /// Cross-entropy loss of each row's target, in nats.
  public func losses(_ states: [Float], _ head: OutputHead, targets: [Int]) -> [Double] {
    guard head.shape.softCap != nil else {
      let input = input(of: head, states)
      return compute.losses(input.span, head: head.weight, targets: targets)
    }
    var losses: [Double] = []
    let width = shape.hidden
    // Rows per step, so that their logits take tens of MiB.
    let grain = max(1, (8 << 20) / max(1, shape.vocabulary))
    for start in stride(from: 0, to: targets.count, by: grain) {
      let rows = start..<min(start + grain, targets.count)
      var logits = [Float](repeating: 0, count: rows.count * shape.vocabulary)
      self.logits(
        Array(states[rows.lowerBound * width..<rows.upperBound * width]), head, into: &logits)
      losses += compute.losses(logits.span, targets: Array(targets[rows]))
    }
    return losses
  }

  /// Input of the head's product: the hidden states, normed, projected and scaled.
  private func input(of head: OutputHead, _ states: [Float]) -> [Float] {
    var input = states
    if let norm = head.norm { arithmetic.norm(states, norm, into: &input) }
    if let projection = head.projection {
      let tokens = states.count / shape.hidden
      var projected = [Float](repeating: 0, count: tokens * projection.weight.rows)
      var out = projected.mutableSpan
      projection.multiply(input.span, into: &out, on: compute)
      input = projected
    }
    if head.shape.scale != 1 { arithmetic.scale(&input, by: head.shape.scale) }
    return input
  }
}
