import NibbleFormats
import NibbleModel
import NibbleTensor

/// Runs a recipe's steps on one block.
struct BlockSteps {
  let plan: Plan
  let unit: Plan.Unit
  let checkpoint: Checkpoint
  let compute: Compute

  /// Result of quantizing one block.
  struct Outcome {
    var encoded: [String: Bytes] = [:]
    var weights: [String: Weight] = [:]
    var layers: [LayerReport] = []
    var steps: [StepReport] = []
    /// Ranges of keys and values, from which the KV cache scales are computed.
    var cache: KeyValueRanges?
    /// Number of calibration tokens per expert. Empty without experts or if tokens were not
    /// counted.
    var expertTokens: [Int] = []
    /// The quantized block, if steps made it; otherwise the source's, to be run with `weights`.
    var block: Block?
  }

  /// Rounds each layer separately, directly from the checkpoint.
  func round(_ round: Round) throws(QuantizeError) -> Outcome {
    var outcome = Outcome()
    for layer in unit.layers {
      let source: FloatMatrix
      do {
        source = try checkpoint.matrix(
          layer.tensor, rows: layer.outputs, columns: layer.inputs)
      } catch { throw .model(error) }
      let matrix: QuantizedMatrix
      if let outliers = plan.recipe.steps.last as? OutlierRound, layer.linear != nil {
        let weight = FloatRows(.float(source), on: compute)
        if let bad = weight.firstNonFinite(on: compute) {
          throw .nonFinite(tensor: layer.path + ".weight", index: bad)
        }
        matrix =
          outliers.round(
            weight,
            scaleFormat: plan.exporter.scaleFormat(of: layer), on: compute
          ).0
      } else {
        matrix = try round.round(
          layer, of: checkpoint, scaleFormat: plan.exporter.scaleFormat(of: layer),
          sharedPeak: try sharedPeak(of: layer), on: compute)
      }
      let noise = matrix.signalToNoise(against: source, on: compute)
      let inputs = layer.scheme.activations.map { InputRounding($0) }
      add(matrix, inputs, layer, noise, to: &outcome)
    }
    for norm in unit.norms {
      do {
        add(try checkpoint.norm(norm.shape, at: norm.path), norm, to: &outcome)
      } catch { throw .model(error) }
    }
    return outcome
  }

  private func sharedPeak(of layer: Plan.Layer) throws(QuantizeError) -> Float {
    var peak: Float = 0
    for other in layer.fused(among: unit.layers) {
      do {
        peak = max(
          peak,
          try checkpoint.matrix(
            other.path + ".weight", rows: other.outputs, columns: other.inputs
          ).peak(on: compute))
      } catch { throw .model(error) }
    }
    return peak
  }

  private func add(
    _ matrix: QuantizedMatrix, _ inputs: InputRounding?, _ layer: Plan.Layer, _ noise: Double,
    bias: [Float]? = nil, outliers: Int? = nil, to outcome: inout Outcome
  ) {
    outcome.encoded.merge(
      plan.exporter.encode(matrix, bias: bias, inputs: inputs, of: layer)
    ) { first, _ in first }
    outcome.weights[layer.path] = .quantized(matrix, inputs: inputs)
    outcome.layers.append(
      LayerReport(
        path: layer.path, signalToNoise: noise.isFinite ? noise : nil,
        sparsity: layer.isSparse
          ? SparsityReport(matrix, outliers: outliers ?? 0, on: compute) : nil))
  }

  private func add(_ norm: Norm, _ written: Plan.BiasedNorm, to outcome: inout Outcome) {
    outcome.encoded.merge(plan.exporter.encode(norm, of: written.path, written.format)) {
      first, _ in first
    }
  }

  /// Runs the calibrated steps. Advances the calibration windows past the block.
  func calibrated(
    _ source: Block, _ index: Int, isLast: Bool, _ known: StatisticsFile?,
    _ streams: inout StateStreams?
  ) throws(QuantizeError) -> Outcome {
    var block = WorkingBlock(
      source, index, in: checkpoint,
      layers: Dictionary(
        uniqueKeysWithValues: unit.layers.compactMap { layer in layer.linear.map { ($0, layer) } }),
      on: compute)
    for layer in unit.layers {
      if let bad = layer.linear.flatMap(block.weight)?.firstNonFinite(on: compute) {
        throw .nonFinite(tensor: layer.path + ".weight", index: bad)
      }
    }
    try observe(&block, source, isLast: isLast, known, &streams)
    // The source's pages are read again when the result is measured.
    source.release()
    var context = StepContext(
      exporter: plan.exporter, compute: compute, source: source, streams: streams.take())
    defer { streams = context.streams }
    var outcome = Outcome()
    for (position, step) in plan.recipe.steps.enumerated() {
      if position == plan.recipe.steps.count - 1 {
        try findInputs(of: &block, isKnown: known != nil)
      }
      outcome.steps += try step.apply(to: &block, &context)
    }
    for layer in unit.layers {
      guard let id = layer.linear, let rounded = block.rounded[id] else { continue }
      add(
        rounded.matrix, block.inputs[id], layer, rounded.signalToNoise, bias: block.bias(of: id),
        outliers: rounded.outliers, to: &outcome)
    }
    if !block.tokens.isEmpty, unit.layers.contains(where: { $0.site?.isOfExpert == true }) {
      outcome.expertTokens = block.sites.filter { $0.expert != nil }.map {
        block.tokens[$0.site] ?? 0
      }
    }
    try addCache(of: block, known, context.streams?.keyValues, to: &outcome)
    outcome.encoded.merge(block.changedTensors) { first, _ in first }
    for norm in unit.norms {
      if let values = block.norm(at: norm.path) { add(values, norm, to: &outcome) }
    }
    outcome.block = block.parameters
    return outcome
  }

  /// Gives the block the statistics of the source's activations, if the recipe uses them.
  private func observe(
    _ block: inout WorkingBlock, _ source: Block, isLast: Bool, _ known: StatisticsFile?,
    _ streams: inout StateStreams?
  ) throws(QuantizeError) {
    let needs = plan.recipe.needs
    if let known {
      for site in block.sites {
        var statistics = ActivationStatistics(
          try known.record(block.index, site.site), moments: nil)
        guard statistics.channels == site.width else {
          throw .statistics(path: known.path, reason: "its records have other sizes")
        }
        // The router sent no token to this expert.
        if statistics.tokens == 0 { continue }
        if needs.contains(.moments) { statistics.estimateMoments(on: compute) }
        block.seen[site.site] = statistics
      }
    } else if !needs.isDisjoint(with: .stored) {
      block.seen =
        streams?.statistics(
          of: source, isLast: isLast, advances: needs.isDisjoint(with: [.aligned, .source]),
          keepsMoments: needs.contains(.moments),
          keepsWindows: plan.recipe.inputRange != .searched) ?? [:]
    }
    block.tokens = block.seen.mapValues(\.tokens)
  }

  /// Finds how each layer rounds its inputs, from the statistics at the time its weight is rounded.
  private func findInputs(
    of block: inout WorkingBlock, isKnown: Bool
  ) throws(QuantizeError) {
    // Layers that read the same site share its range.
    var ranges: [Site: InputRange] = [:]
    for layer in unit.layers {
      guard let id = layer.linear, let activations = layer.scheme.activations else { continue }
      guard activations.isStatic, let site = block.sites.first(where: { $0.site == layer.site })
      else {
        block.inputs[id] = InputRounding(activations)
        continue
      }
      guard let statistics = block.seen[site.site] else {
        throw .unmeasurable(
          "no calibration token reaches \(layer.path), so that its inputs have no range. "
            + (isKnown
              ? "Calibrate on more text, or use dynamic activations."
              : "Give more text, or --expert-tokens all, or use dynamic activations."))
      }
      let range =
        ranges[site.site]
        ?? plan.recipe.inputRange.range(
          of: statistics, scheme: activations, weights: site.ids.compactMap(block.weight),
          on: compute)
      ranges[site.site] = range
      let scale = plan.exporter.inputScaleFormat(of: layer).round(range.scale)
      block.inputs[id] = InputRounding(
        activations,
        range: InputRange(scale: max(scale, .leastNormalMagnitude), zero: range.zero))
    }
  }

  /// Adds the scales of the block's KV cache, if the recipe quantizes it.
  ///
  /// - Parameter seen: ranges in the calibration windows.
  private func addCache(
    of block: WorkingBlock, _ known: StatisticsFile?, _ seen: KeyValueRecord?,
    to outcome: inout Outcome
  ) throws(QuantizeError) {
    guard let cache = plan.recipe.cache, let attention = block.shape.attention else { return }
    let isQuantized = plan.recipe.needs.contains(.quantized)
    let watched = isQuantized ? nil : try known?.keyValues(block.index)
    if let known, let watched, watched.keys.low.count != attention.core.keyWidth {
      throw .statistics(
        path: known.path, reason: "its ranges of keys and values have other sizes")
    }
    var record = watched ?? seen ?? KeyValueRecord()
    if !isQuantized, let factors = block.valueFactors {
      record = record.dividingValues(by: factors)
    }
    let ranges = try KeyValueRanges(
      record, keyHeads: attention.core.keyHeads, block: block.index)
    outcome.cache = ranges
    if let scales = ranges.scales(cache.format) {
      let path = "\(block.shape.path).\(attention.path)"
      outcome.encoded.merge(plan.exporter.encode(scales, ranges, of: path)) { first, _ in first }
    }
  }
}
