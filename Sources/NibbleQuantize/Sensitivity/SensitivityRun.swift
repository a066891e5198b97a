public import NibbleModel
public import NibbleTensor

/// Rounds each group of layers by itself, to nearest, and measures what the model's last words become.
///
/// A group costs the blocks from its own to the last one, so all of them cost about
/// `2 · blocks` passes over the windows. Static activations are measured with a range for each window.
public struct SensitivityRun {
  private let checkpoint: Checkpoint
  private let plan: Plan
  private let windows: [[Int]]
  private let compute: Compute

  /// - Parameter windows: tokens; must not be those of the verdict.
  public init(
    _ checkpoint: Checkpoint, _ plan: Plan, windows: [[Int]], on compute: Compute
  ) {
    self.checkpoint = checkpoint
    self.plan = plan
    self.windows = windows
    self.compute = compute
  }

  public func run(
    progress: (_ done: Int, _ of: Int) -> Void, shouldStop: () -> Bool = { false }
  ) throws(QuantizeError) -> Sensitivity {
    guard let config = plan.decoder else {
      throw .unmeasurable(
        "sensitivity needs a model that runs: " + (plan.familyError.map { "\($0)" } ?? ""))
    }
    guard !windows.isEmpty else { throw .unmeasurable("sensitivity needs text that runs") }
    do {
      let decoder = try Decoder(config, from: checkpoint)
      let ends = DecoderEnds(decoder)
      var pass = try ForwardPass(
        config, positions: windows.map(\.count).max() ?? 1, on: compute)
      // What enters each block, and the source's logits.
      var before: [[[Float]]] = []
      var states: [[Float]] = []
      for window in windows { states.append(try ends.states(of: window)) }
      for block in decoder.blocks {
        before.append(states)
        Self.run(block, on: &states, &pass)
      }
      let base = logits(states, decoder, pass)
      let groups = plan.units.filter { $0.block != nil }.flatMap { unit in
        Site.allCases.map { site in
          (unit.block ?? 0, site, unit.layers.filter { $0.role.map { Site(of: $0) } == site })
        }
      }.filter { !$0.2.isEmpty }
      var found: [Sensitivity.Group] = []
      for (block, site, layers) in groups {
        guard !shouldStop() else { throw QuantizeError.interrupted("the measurement of layers") }
        var group = Sensitivity.Group(
          block: block, site: site, paths: layers.map(\.path),
          weights: layers.reduce(0) { $0 + $1.inputs * $1.outputs }, kl: 0, signalToNoise: nil)
        var states = before[block]
        let rounded = try round(layers, of: decoder.blocks[block], &group)
        Self.run(rounded, on: &states, &pass)
        for later in decoder.blocks[(block + 1)...] { Self.run(later, on: &states, &pass) }
        group.kl = divergence(logits(states, decoder, pass), from: base, decoder)
        found.append(group)
        progress(found.count, groups.count)
      }
      return Sensitivity(found, tokens: windows.reduce(0) { $0 + $1.count - 1 })
    } catch let error as QuantizeError { throw error } catch let error as ModelError {
      throw .model(error)
    } catch { preconditionFailure("\(error)") }
  }

  private func round(
    _ layers: [Plan.Layer], of block: Block, _ group: inout Sensitivity.Group
  ) throws(QuantizeError) -> Block {
    var block = block
    for layer in layers {
      guard let role = layer.role else { continue }
      let matrix = try Round().apply(
        to: layer, of: checkpoint, scaleFormat: plan.exporter.scaleFormat(of: layer),
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
      block.linears[role]?.weight = .quantized(matrix, inputs: inputs)
    }
    return block
  }

  private static func run(_ block: Block, on states: inout [[Float]], _ pass: inout ForwardPass) {
    for index in states.indices {
      let capacity = states[index].count / pass.config.hidden
      let store = KeyValueStore(pass.config.attention, capacity: capacity)
      pass.run(block, on: &states[index], from: 0, keeping: store)
    }
  }

  /// `[t - 1, vocabulary]` of each window.
  private func logits(
    _ states: [[Float]], _ decoder: Decoder, _ pass: ForwardPass
  ) -> [[Float]] {
    let config = decoder.config
    return states.map { states in
      let rows = states.count / config.hidden - 1
      var logits = [Float](repeating: 0, count: rows * config.vocabulary)
      pass.logits(
        Array(states.prefix(rows * config.hidden)), norm: decoder.finalNorm,
        head: PreparedWeight(decoder.head),
        into: &logits)
      return logits
    }
  }

  private func divergence(_ logits: [[Float]], from base: [[Float]], _ decoder: Decoder) -> Double {
    var meter = LossMeter()
    for index in windows.indices {
      let (found, source) = (logits[index], base[index])
      let rows = compute.compare(
        found.span, to: source.span, targets: Array(windows[index].dropFirst()))
      meter.add(rows)
    }
    return meter.comparison?.kl ?? 0
  }
}
