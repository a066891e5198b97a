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
    /// The source's block with changed norms and biases, to be run with `weights`.
    var parameters: Block?
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
      if case .outlierRound(let outliers)? = plan.recipe.steps.last, layer.linear != nil {
        let weight = FloatRows(.float(source), on: compute)
        if let bad = weight.firstNonFinite(on: compute) {
          throw .nonFinite(tensor: layer.path + ".weight", index: bad)
        }
        matrix =
          outliers.apply(
            to: weight,
            scaleFormat: plan.exporter.scaleFormat(of: layer), on: compute
          ).0
      } else {
        matrix = try round.apply(
          to: layer, of: checkpoint, scaleFormat: plan.exporter.scaleFormat(of: layer),
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

  /// Layers that an engine fuses into one, such as query, key and value. If each has one FP8 scale,
  /// the engine would merge the scales by rounding the codes again, so these layers share a scale
  /// here.
  private func fused(with layer: Plan.Layer) -> [Plan.Layer] {
    let weights = layer.scheme.weights
    guard weights.format == .e4m3, weights.granularity == .tensor, let site = layer.site else {
      return []
    }
    return unit.layers.filter { other in
      other.scheme == layer.scheme && other.site == site && other.module == layer.module
    }
  }

  private func sharedPeak(of layer: Plan.Layer) throws(QuantizeError) -> Float {
    var peak: Float = 0
    for other in fused(with: layer) {
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
    let needs = plan.recipe.needs
    var outcome = Outcome()
    var block = FloatBlock(source, index, in: checkpoint, on: compute)
    for layer in unit.layers {
      if let id = layer.linear, let bad = block.weights[id]?.firstNonFinite(on: compute) {
        throw .nonFinite(tensor: layer.path + ".weight", index: bad)
      }
    }
    var seen: [Site: ActivationStatistics] = [:]
    if let known {
      for site in block.sites {
        var statistics = ActivationStatistics(
          try known.record(index, site.site), moments: nil)
        guard statistics.channels == site.width else {
          throw .statistics(path: known.path, reason: "its records have other sizes")
        }
        // The router sent no token to this expert.
        if statistics.tokens == 0 { continue }
        if needs.contains(.moments) { statistics.estimateMoments(on: compute) }
        seen[site.site] = statistics
      }
    } else if !needs.isDisjoint(with: .sourceStates) {
      seen =
        streams?.statistics(
          of: source, isLast: isLast,
          keepsMoments: needs.contains(.moments),
          keepsWindows: plan.recipe.inputRange != .searched) ?? [:]
    }
    // The steps work on a copy. The source's pages are read again when the result is measured.
    source.release()
    let layers = Dictionary(
      uniqueKeysWithValues: unit.layers.compactMap { layer in layer.linear.map { ($0, layer) } })
    var matrices: [LinearID: QuantizedMatrix] = [:]
    func countTokens(_ tokens: (Site) -> Int?) {
      // Of experts that are rounded.
      guard unit.layers.contains(where: { $0.site?.isOfExpert == true }) else { return }
      outcome.expertTokens = block.sites.filter { $0.expert != nil }.map { tokens($0.site) ?? 0 }
    }
    if !seen.isEmpty { countTokens { seen[$0]?.tokens } }
    /// Of sites whose range was found.
    var ranges: [Site: InputRange] = [:]
    /// How a layer rounds its inputs, from the statistics at the time its weight is rounded.
    func inputs(_ layer: Plan.Layer) throws(QuantizeError) -> InputRounding? {
      guard let activations = layer.scheme.activations else { return nil }
      guard activations.isStatic, let site = block.sites.first(where: { $0.site == layer.site })
      else { return InputRounding(activations) }
      guard let statistics = seen[site.site] else {
        throw .unmeasurable(
          "no calibration token reaches \(layer.path), so that its inputs have no range. "
            + (known == nil
              ? "Give more text, or --expert-tokens all, or use dynamic activations."
              : "Calibrate on more text, or use dynamic activations."))
      }
      // Layers that read the same site share its range.
      let range =
        ranges[site.site]
        ?? plan.recipe.inputRange.range(
          of: statistics, scheme: activations,
          weights: site.ids.compactMap { block.weights[$0] }, on: compute)
      ranges[site.site] = range
      let scale = plan.exporter.inputScaleFormat(of: layer).round(range.scale)
      return InputRounding(
        activations,
        range: InputRange(scale: max(scale, .leastNormalMagnitude), zero: range.zero))
    }
    var outlierCounts: [LinearID: Int] = [:]
    var roundings: [LinearID: InputRounding] = [:]
    let last = plan.recipe.steps.last
    for step in plan.recipe.steps {
      if step == last {
        for layer in unit.layers {
          if let id = layer.linear { roundings[id] = try inputs(layer) }
        }
      }
      switch step {
      case .smooth(let smooth):
        outcome.steps += smooth.apply(to: &block, seen: &seen, layers: layers, on: compute)
      case .awq(let awq):
        outcome.steps += awq.apply(
          to: &block, seen: &seen, layers: layers, scaleFormat: plan.exporter.scaleFormat,
          on: compute)
      case .round(let round):
        for (id, layer) in layers {
          guard let weight = block.weights[id] else { continue }
          do {
            matrices[id] = try round.apply(
              to: weight, seen: layer.site.flatMap { seen[$0] }, scheme: layer.scheme.weights,
              scaleFormat: plan.exporter.scaleFormat(of: layer),
              sharedPeak: fused(with: layer).compactMap(\.linear).compactMap {
                block.weights[$0]?.matrix.peak(on: compute)
              }.max() ?? 0, on: compute)
          } catch { throw .nonFinite(tensor: layer.path + ".weight", index: error.index) }
        }
      case .outlierRound(let round) where !round.compensates:
        for (id, layer) in layers {
          guard let weight = block.weights[id] else { continue }
          let (matrix, outliers) = round.apply(
            to: weight, scaleFormat: plan.exporter.scaleFormat(of: layer), on: compute)
          matrices[id] = matrix
          outlierCounts[id] = outliers
        }
      case .outlierRound(let round):
        var quantized = block.runnable
        var tokens: [Site: Int] = [:]
        streams?.roundInOrder(&quantized, inputs: roundings, rounding: Set(layers.keys)) {
          site, moments in
          tokens[site.site] = moments.tokens
          var weights: [LinearID: Weight] = [:]
          let factor = OutlierRound.Factor(moments, on: compute)
          for id in site.ids {
            guard let layer = layers[id], let weight = block.weights[id] else { continue }
            let (matrix, outliers) = round.apply(
              to: weight, factor: factor, scaleFormat: plan.exporter.scaleFormat(of: layer),
              on: compute)
            matrices[id] = matrix
            outlierCounts[id] = outliers
            weights[id] = .quantized(matrix, inputs: roundings[id])
          }
          return weights
        }
        countTokens { tokens[$0] }
      case .gptq(let gptq):
        for site in seen.keys { seen[site]?.forgetMoments() }
        var quantized = block.runnable
        var tokens: [Site: Int] = [:]
        streams?.roundInOrder(&quantized, inputs: roundings, rounding: Set(layers.keys)) {
          site, moments in
          tokens[site.site] = moments.tokens
          var weights: [LinearID: Weight] = [:]
          let feedback = gptq.feedback(moments, on: compute)
          for id in site.ids {
            guard let layer = layers[id], let weight = block.weights[id] else { continue }
            let matrix = gptq.apply(
              to: weight, feedback, scheme: layer.scheme.weights,
              scaleFormat: plan.exporter.scaleFormat(of: layer), on: compute)
            matrices[id] = matrix
            weights[id] = .quantized(matrix, inputs: roundings[id])
          }
          return weights
        }
        countTokens { tokens[$0] }
      }
    }
    for layer in unit.layers {
      guard let id = layer.linear, let matrix = matrices[id], let weight = block.weights[id]
      else { continue }
      add(
        matrix, roundings[id], layer, matrix.signalToNoise(against: weight, on: compute),
        bias: block.bias(of: id), outliers: outlierCounts[id], to: &outcome)
    }
    if let cache = plan.recipe.cache, let attention = block.shape.attention {
      let isQuantized = needs.contains(.quantized)
      let watched = isQuantized ? nil : try known?.keyValues(index)
      let width = attention.core.keyWidth
      if let known, let watched, watched.keys.low.count != width {
        throw .statistics(
          path: known.path, reason: "its ranges of keys and values have other sizes")
      }
      var record = watched ?? streams?.keyValues ?? KeyValueRecord()
      if !isQuantized, let factors = block.valueFactors {
        record = record.dividingValues(by: factors)
      }
      let ranges = try KeyValueRanges(
        record, keyHeads: attention.core.keyHeads, block: index)
      outcome.cache = ranges
      if let scales = ranges.scales(cache.format) {
        let path = "\(block.shape.path).\(attention.path)"
        outcome.encoded.merge(plan.exporter.encode(scales, ranges, of: path)) { first, _ in first }
      }
    }
    outcome.encoded.merge(block.changedTensors) { first, _ in first }
    for norm in unit.norms {
      if let values = block.norm(at: norm.path) { add(values, norm, to: &outcome) }
    }
    outcome.parameters = block.parameters
    return outcome
  }
}
