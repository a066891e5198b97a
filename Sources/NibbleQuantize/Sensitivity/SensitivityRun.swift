import Foundation
public import NibbleModel
public import NibbleTensor

/// Rounds each group of layers by itself, to nearest, and measures how the model's output distribution
/// changes.
///
/// A group is run through the blocks from its own to the last one, about `2 · blocks` passes over
/// the windows for all. Memory holds one block and three states of the windows: before the current
/// block, after the last block, and of the rounded model. None grows with the number of blocks.
/// Static activations are measured with one range per window.
public struct SensitivityRun {
  private let checkpoint: Checkpoint
  private let plan: Plan
  private let windows: [[Int]]
  private let compute: Compute

  /// - Parameter windows: token ids; must differ from the held-out windows of the verdict.
  public init(
    _ checkpoint: Checkpoint, _ plan: Plan, windows: [[Int]], on compute: Compute
  ) {
    self.checkpoint = checkpoint
    self.plan = plan
    self.windows = windows
    self.compute = compute
  }

  /// - Parameters:
  ///   - scratch: folder for states that do not fit in memory, in files without a name; nil for the
  ///     system's temporary folder.
  ///   - shouldStop: called before each block that runs.
  public func run(
    scratch: String? = nil,
    progress: (_ done: Int, _ of: Int) -> Void, shouldStop: () -> Bool = { false }
  ) throws(QuantizeError) -> Sensitivity {
    if let fault = plan.recipe.undecidedFault {
      throw .unsoundRecipe(recipe: plan.recipe.name, reason: fault)
    }
    guard let config = plan.decoder else {
      throw .unmeasurable(
        "sensitivity needs a model that runs: " + (plan.familyError.map { "\($0)" } ?? ""))
    }
    guard !windows.isEmpty else { throw .unmeasurable("sensitivity needs text that runs") }
    do {
      let ends = try DecoderEnds(config, from: checkpoint)
      var pass = try ForwardPass(
        config, positions: windows.map(\.count).max() ?? 1, on: compute)
      let scratch = scratch ?? FileManager.default.temporaryDirectory.path
      let sizes = windows.map { $0.count * config.stateWidth }
      var before = try WindowStates(sizes: sizes, in: scratch)
      var source = try WindowStates(sizes: sizes, in: scratch)
      var rounded = try WindowStates(sizes: sizes, in: scratch)
      for (index, window) in windows.enumerated() {
        before[index] = try ends.states(of: window, on: compute)
        source[index] = before[index]
      }
      ends.embedding.release()
      for block in config.blocks {
        try advance(&source, by: block, &pass, shouldStop)
      }
      let groups = plan.groups
      var found: [Sensitivity.Group] = []
      for (index, shape) in config.blocks.enumerated() {
        let block = try Block(shape, from: checkpoint)
        for (site, layers) in groups[index] ?? [] {
          var group = Sensitivity.Group(
            block: index, site: site, paths: layers.map(\.path),
            weights: layers.reduce(0) { $0 + $1.inputs * $1.outputs }, kl: 0, signalToNoise: nil)
          for window in windows.indices { rounded[window] = before[window] }
          let candidate = try round(layers, of: block, &group)
          try Self.check(shouldStop)
          run(candidate, on: &rounded, &pass)
          for later in config.blocks[(index + 1)...] {
            try advance(&rounded, by: later, &pass, shouldStop)
          }
          group.kl = divergence(of: rounded, from: source, ends, &pass)
          found.append(group)
          progress(found.count, groups.values.reduce(0) { $0 + $1.count })
        }
        try Self.check(shouldStop)
        run(block, on: &before, &pass)
        block.release()
      }
      return Sensitivity(found, tokens: windows.reduce(0) { $0 + $1.count - 1 })
    } catch { throw QuantizeError(wrapping: error) }
  }

  /// Runs one of the source's blocks, which is in memory only during the call.
  private func advance(
    _ states: inout WindowStates, by shape: BlockShape,
    _ pass: inout ForwardPass, _ shouldStop: () -> Bool
  ) throws {
    try Self.check(shouldStop)
    let block = try Block(shape, from: checkpoint)
    run(block, on: &states, &pass)
    block.release()
  }

  private static func check(_ shouldStop: () -> Bool) throws(QuantizeError) {
    guard !shouldStop() else { throw .interruptedWithoutTrace(work: "the measurement of layers") }
  }

  private func run(
    _ block: Block, on states: inout WindowStates, _ pass: inout ForwardPass
  ) {
    var block = block
    if windows.count > 1 { block.pack(on: compute) }
    for index in windows.indices { pass.run(block, on: &states[index]) { _, _ in } }
  }

  private func round(
    _ layers: [Plan.Layer], of block: Block, _ group: inout Sensitivity.Group
  ) throws(QuantizeError) -> Block {
    var block = block
    for layer in layers {
      guard let id = layer.linear else { continue }
      let matrix = try plan.recipe.plainRound.round(
        layer, of: checkpoint, scaleFormat: plan.exporter.scaleFormat(of: layer),
        sharedPeak: 0, on: compute)
      let source: FloatMatrix
      do {
        source = try checkpoint.matrix(
          layer.path + ".weight", rows: layer.outputs, columns: layer.inputs)
      } catch { throw .model(error) }
      let noise = matrix.signalToNoise(against: source, on: compute)
      if noise.isFinite { group.signalToNoise = min(group.signalToNoise ?? noise, noise) }
      let inputs = layer.scheme.activations.map { activations in
        InputRounding(activations.isStatic ? .dynamicPerTensor(activations.format) : activations)
      }
      block.linears[id]?.weight = .quantized(matrix, inputs: inputs)
    }
    return block
  }

  /// Mean KL divergence over all positions but the last of each window.
  private func divergence(
    of states: WindowStates, from source: WindowStates, _ ends: DecoderEnds,
    _ pass: inout ForwardPass
  ) -> Double {
    let head = OutputHead(ends, on: compute)
    var comparison = StateComparison(head, against: head)
    for (index, window) in windows.enumerated() {
      comparison.add(states[index], against: source[index], window: window, index: index, &pass)
    }
    return comparison.meter.kl
  }
}

extension Plan {
  /// Layers that share an input, per block; all layers of the experts of a block together.
  var groups: [Int: [(site: Site, layers: [Layer])]] {
    var groups: [Int: [(site: Site, layers: [Layer])]] = [:]
    for unit in units {
      guard let block = unit.block else { continue }
      let sites = decoder?.blocks[block].sites ?? []
      let experts = decoder?.blocks[block].experts?.expertLinears ?? []
      var found = sites.filter { $0.expert == nil }.map {
        ($0.site, Set($0.ids).subtracting(experts))
      }
      found.append((.experts, experts))
      groups[block] = found.compactMap { site, ids in
        let layers = unit.layers.filter { $0.linear.map(ids.contains) == true }
        return layers.isEmpty ? nil : (site, layers)
      }
    }
    return groups
  }
}
