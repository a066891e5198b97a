import NibbleTensor

extension ForwardPass {
  /// Runs the experts of a branch on `memory.normed`, into `memory.result`. Experts are added in
  /// ascending order, so a token's sum does not depend on the other tokens.
  mutating func mix(
    _ block: Block, _ experts: ExpertsShape, as purpose: Purpose,
    watch: (Site, _ activation: [Float]) -> Void
  ) {
    let showsAll = purpose != .states && showsAllTokens
    if showsAll {
      for (index, unit) in experts.units.enumerated() {
        takeAll(unit)
        gate(block, unit)
        watch(.down(expert: index), memory.expert.gate)
      }
    }
    let portions = route(block, experts)
    arithmetic.clear(&memory.result)
    for portion in portions {
      let unit = experts.units[portion.expert]
      take(portion, unit)
      run(block, unit, as: purpose) { activation in
        if !showsAll { watch(.down(expert: portion.expert), activation) }
      }
      arithmetic.scatter(
        memory.expert.result, portion, width: shape.hidden, to: &memory.result)
    }
    guard let shared = experts.shared else { return }
    takeAll(shared.unit)
    run(block, shared.unit, as: purpose) { watch(.sharedDown, $0) }
    if let gate = shared.gate {
      arithmetic.applyGate(block, gate, memory.normed, to: &memory.expert.result)
    }
    arithmetic.add(memory.expert.result, to: &memory.result)
  }

  /// Input of down of one expert or of the shared expert, `[t, width]`. Empty if no token is routed
  /// to the expert.
  mutating func activation(
    at site: SiteShape, _ block: Block, _ experts: ExpertsShape
  ) -> [Float] {
    let unit: FeedForwardShape
    if let expert = site.expert {
      unit = experts.units[expert]
    } else if let shared = experts.shared {
      unit = shared.unit
    } else {
      preconditionFailure("\(site.site) is not there")
    }
    if let expert = site.expert, !showsAllTokens {
      let portions = route(block, experts)
      guard let portion = portions.first(where: { $0.expert == expert }) else { return [] }
      take(portion, unit)
    } else {
      takeAll(unit)
    }
    gate(block, unit)
    return memory.expert.gate
  }

  private mutating func route(_ block: Block, _ experts: ExpertsShape) -> [ExpertPortion] {
    arithmetic.route(
      block, experts, block.routerNorm == nil ? memory.normed : memory.routed,
      scores: &memory.scores)
  }

  /// Copies the rows of `memory.normed` that are routed to an expert into `memory.expert.input`.
  private mutating func take(_ portion: ExpertPortion, _ unit: FeedForwardShape) {
    memory.expert.resize(tokens: portion.rows.count, unit)
    arithmetic.gather(
      portion, of: memory.normed, width: shape.hidden, into: &memory.expert.input)
  }

  private mutating func takeAll(_ unit: FeedForwardShape) {
    memory.expert.resize(tokens: memory.normed.count / shape.hidden, unit)
    memory.expert.input = memory.normed
  }

  /// Runs a unit on `memory.expert.input`. Its output is left unset if no later step needs it.
  private mutating func run(
    _ block: Block, _ unit: FeedForwardShape, as purpose: Purpose, watch: ([Float]) -> Void
  ) {
    if purpose == .states,
      arithmetic.feedForward(
        block, unit, memory.expert.input, into: &memory.expert.result)
    {
      return
    }
    gate(block, unit)
    watch(memory.expert.gate)
    guard purpose != .last else { return }
    arithmetic.apply(block, unit.down, memory.expert.gate, into: &memory.expert.result)
  }

  /// Computes the input of a unit's down, into `memory.expert.gate`.
  private mutating func gate(_ block: Block, _ unit: FeedForwardShape) {
    arithmetic.gate(
      block, unit, memory.expert.input, into: &memory.expert.gate, up: &memory.expert.up,
      fused: &memory.expert.fused)
  }
}
