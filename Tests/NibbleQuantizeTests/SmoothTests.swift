import NibbleEngines
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct SmoothTests {
  /// A model in float32, so that norms store any factor, with loud channels at every site.
  private func bench(
    _ folder: String, _ recipe: Recipe = .w8a8, silent: Bool = false
  ) throws -> StepBench {
    var model = TinyModel()
    (model.format, model.blocks) = (.f32, 1)
    return try StepBench(model, in: folder, recipe: recipe) { name, values in
      if name.contains("layernorm") {
        values[5] *= 40
        values[17] *= 100
        if silent { values[9] = 0 }
      } else if name.contains("v_proj") || name.contains("up_proj") {
        for i in 0..<64 { values[3 * 64 + i] *= 50 }
      }
    }
  }

  private func noise(
    _ bench: StepBench, _ block: WorkingBlock, _ site: Site, _ seen: [Site: ActivationStatistics]
  ) throws -> SmoothingNoise {
    SmoothingNoise(
      block, block.site(site), try #require(seen[site]), bench.plan.recipe.scheme, on: bench.compute
    )
  }

  /// Largest magnitude of the columns of the linears that read a site.
  private func weightPeaks(_ block: WorkingBlock, _ site: Site) -> [Float] {
    site.linears.compactMap { block.weight($0) }.map { weight in
      (0..<weight.columns).map { column in
        stride(from: column, to: weight.values.count, by: weight.columns)
          .map { abs(weight.values[$0]) }.max() ?? 0
      }
    }.reduce([]) { peaks, more in peaks.isEmpty ? more : zip(peaks, more).map(max) }
  }

  /// The largest of the channels that share a factor.
  private func shared(_ peaks: [Float], _ block: WorkingBlock, _ site: Site) -> [Float] {
    let index = block.site(site).factorIndex
    var result = [Float](repeating: 0, count: (index.max() ?? -1) + 1)
    for (channel, peak) in peaks.enumerated() {
      result[index[channel]] = max(result[index[channel]], peak)
    }
    return result
  }

  @Test(arguments: Site.llama, [0, 0.5, 1] as [Float])
  func aStrengthMovesThePeaksToOneSide(_ site: Site, _ strength: Float) throws {
    try inTemporaryFolder { folder in
      let bench = try bench(folder)
      var seen = try bench.statistics(of: bench.source)
      var block = bench.block
      let factors = try noise(bench, block, site, seen).factors(Migration(strength: strength))
      block.fold(factors, into: site, &seen)
      let fresh = try bench.statistics(of: block.runnable())
      let x = shared(try #require(fresh[site]).columns.peaks, block, site)
      let w = shared(weightPeaks(block, site), block, site)
      #expect(x.count == factors.count && w.count == factors.count)
      for channel in factors.indices {
        // Float arithmetic of a forward pass.
        switch strength {
        case 0: #expect(abs(w[channel] - 1) < 1e-5)
        case 1: #expect(abs(x[channel] - 1) < 1e-3)
        default: #expect(abs(x[channel] / w[channel] - 1) < 1e-3)
        }
      }
      if strength == 0.5 {
        // Smoothed already: nothing is left to move.
        for factor in try noise(bench, block, site, fresh).factors(Migration(strength: 0.5)) {
          #expect(abs(factor - 1) < 1e-3)
        }
      }
    }
  }

  @Test func aSilentChannelKeepsItsWeights() throws {
    try inTemporaryFolder { folder in
      let bench = try bench(folder, silent: true)
      for strength in [0, 0.5, 1, nil] as [Float?] {
        var block = bench.block
        _ = try bench.apply(
          Smooth(strength: strength), to: &block, seen: bench.statistics(of: bench.source),
          layers: bench.layers(foldingOnly: .attention))
        let (old, new) = (
          try #require(bench.block.weight(.query)), try #require(block.weight(.query))
        )
        for row in 0..<old.rows { #expect(old.values[row * 64 + 9] == new.values[row * 64 + 9]) }
        #expect(block.runnable().inputNorm.weight[9] == 0)
        #expect(old != new)
      }
    }
  }

  @Test(
    arguments: Site.llama,
    ["w8a8", "w8a8-o1", "w8a8-o2", "w8a8-o3", "groups", "blocks", "w8a16"])
  func searchedItIsNeverWorseThanLeftAlone(_ site: Site, _ name: String) throws {
    var recipe = try Recipe.preset(name == "groups" || name == "blocks" ? "w8a8" : name)
    if name == "groups" { recipe.scheme.weights.granularity = .group(16) }
    if name == "blocks" { recipe.scheme.weights.granularity = .block(rows: 48, columns: 40) }
    try inTemporaryFolder { folder in
      let bench = try bench(folder, recipe)
      let seen = try bench.statistics(of: bench.source)
      var block = bench.block
      let before = try noise(bench, block, site, seen)
      let plain = before.total([Float](repeating: 1, count: before.factorCount))
      let reports = try bench.apply(
        Smooth(), to: &block, seen: seen, layers: bench.layers(foldingOnly: site))
      #expect(reports.map(\.site) == [site])
      let after = try noise(bench, block, site, try bench.statistics(of: block.runnable()))
      let smoothed = after.total([Float](repeating: 1, count: after.factorCount))
      #expect(smoothed < 0.9 * plain, "\(smoothed) of \(plain)")
      // No strength would have done better.
      for step in 0...20 {
        let other = before.total(before.factors(Migration(strength: Float(step) / 20)))
        #expect(smoothed <= other * 1.001)
      }
      let change = relativeError(
        try bench.contribution(of: block.runnable()), try bench.contribution(of: bench.source))
      #expect(change <= 1e-5)
    }
  }

  /// Channels that lie off zero are centered where that helps, and no shift is taken where it does not.
  @Test func aShiftCentersWhatLiesOffZero() throws {
    var recipe = Recipe.w8a8Static
    recipe.steps = [Smooth(shifts: true), Round()]
    for offset in [0, 6] as [Float] {
      try inTemporaryFolder { folder in
        var model = TinyModel()
        (model.format, model.blocks) = (.f32, 1)
        let bench = try StepBench(model, in: folder) { name, values in
          guard name.contains("embed_tokens") else { return }
          for index in values.indices where index % 64 < 8 { values[index] += offset }
        }
        let plan = try Plan(
          bench.checkpoint, recipe: recipe, exporter: Ascend(),
          windows: WindowSizes(calibration: [], heldOut: []))
        let layers = Dictionary(
          uniqueKeysWithValues: plan.units[0].layers.compactMap { layer in
            layer.linear.map { ($0, layer) }
          })
        var results: [[StepReport]] = []
        for shifts in [false, true] {
          var block = bench.block
          results.append(
            try bench.apply(
              Smooth(shifts: shifts), to: &block, seen: bench.statistics(of: bench.source),
              layers: layers))
          let change = relativeError(
            try bench.contribution(of: block.runnable()), try bench.contribution(of: bench.source))
          #expect(change <= 1e-5)
          let bias = block.runnable().inputNorm.bias
          if !shifts { #expect(bias == nil) }
          if shifts, offset > 0 {
            let bias = try #require(bias)
            #expect(bias.prefix(8).allSatisfy { abs($0) > 10 * abs(bias[20]) })
          }
        }
        let (plain, shifted) = (results[0].map(\.result), results[1].map(\.result))
        #expect(offset == 0 || plain[0] != shifted[0])
        #expect(offset == 0 || shifted[0].contains(" less "))
      }
    }
  }

  @Test func theNoiseIsThatOfRounding() throws {
    try inTemporaryFolder { folder in
      let bench = try bench(folder)
      let seen = try bench.statistics(of: bench.source)
      for site in Site.llama {
        let predicted = try noise(bench, bench.block, site, seen)
          .total([Float](repeating: 1, count: noise(bench, bench.block, site, seen).factorCount))
        // What rounding really does to the outputs of the site's linears, a token.
        var (error, tokens) = (0.0, 0)
        for x in try #require(bench.activations(of: bench.source)[site]) {
          for linear in site.linears {
            let weight = try #require(bench.block.weight(linear))
            let float = FloatMatrix(
              format: .f32, rows: weight.rows, columns: weight.columns,
              bytes: Bytes(FloatFormat.f32.encode(weight.values.span)))
            let rounded = try QuantizedMatrix(
              rounding: float, to: bench.plan.recipe.scheme.weights, scaleFormat: .f32,
              on: bench.compute)
            var outputs: [[Float]] = []
            for matrix in [
              Weight.float(float),
              .quantized(rounded, inputs: InputRounding(.dynamicPerToken(.int8))),
            ] {
              var y = [Float](repeating: 0, count: x.count / weight.columns * weight.rows)
              var out = y.mutableSpan
              matrix.multiply(x.span, into: &out, on: bench.compute)
              outputs.append(y)
            }
            error += zip(outputs[0], outputs[1]).reduce(0) {
              $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1)
            }
          }
          tokens += 24
        }
        // A model of uniform errors: values far below a step lose less than that.
        let real = error / Double(tokens)
        #expect(predicted > real / 1.5 && predicted < real * 4, "\(site): \(predicted), \(real)")
      }
    }
  }
}
