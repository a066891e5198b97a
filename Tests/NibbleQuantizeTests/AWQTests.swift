import NibbleEngines
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct AWQTests {
  private func bench(_ folder: String, _ recipe: Recipe) throws -> StepBench {
    var model = TinyModel()
    (model.format, model.blocks) = (.f32, 1)
    return try StepBench(model, in: folder, recipe: recipe) { name, values in
      if name.contains("layernorm") {
        values[5] *= 20
        values[40] *= 30
      } else if name.contains("v_proj") || name.contains("up_proj") {
        for i in 0..<64 { values[3 * 64 + i] *= 20 }
      }
    }
  }

  private func recipe(_ granularity: WeightScheme.Granularity, symmetric: Bool) -> Recipe {
    Recipe(
      name: "test", summary: "",
      scheme: LinearScheme(
        weights: WeightScheme(
          format: .int(bits: 4, symmetric: symmetric), granularity: granularity)),
      maxKL: 1)
  }

  private func loss(
    _ bench: StepBench, _ block: WorkingBlock, _ site: Site, _ seen: [Site: ActivationStatistics]
  ) throws -> ScalingLoss {
    let statistics = try #require(seen[site])
    return ScalingLoss(
      block, block.site(site), statistics, try #require(statistics.moments),
      bench.plan.recipe.scheme.weights,
      .f32, on: bench.compute)
  }

  @Test(arguments: Site.llama)
  func theLossIsTheSquaredErrorOfTheOutputs(_ site: Site) throws {
    try inTemporaryFolder { folder in
      let bench = try bench(folder, recipe(.group(32), symmetric: false))
      let loss = try loss(bench, bench.block, site, try bench.statistics(of: bench.source))
      var expected = 0.0
      for x in try #require(bench.activations(of: bench.source)[site]) {
        for linear in site.linears {
          let weight = try #require(bench.block.weight(linear))
          let (n, k) = (weight.rows, weight.columns)
          let rounded = try QuantizedMatrix(
            rounding: FloatMatrix(
              format: .f32, rows: n, columns: k,
              bytes: Bytes(FloatFormat.f32.encode(weight.values.span))),
            to: bench.plan.recipe.scheme.weights, scaleFormat: .f32, on: bench.compute
          ).decoded()
          for token in 0..<x.count / k {
            for row in 0..<n {
              var error = 0.0
              for c in 0..<k {
                error +=
                  Double(rounded[row * k + c] - weight.values[row * k + c])
                  * Double(x[token * k + c])
              }
              expected += error * error
            }
          }
        }
      }
      let value = loss.value([Float](repeating: 1, count: loss.factorCount), on: bench.compute)
      #expect(abs(value - expected) <= 1e-3 * expected, "\(value), \(expected)")
    }
  }

  @Test(
    arguments: Site.llama,
    [.group(32), .channel, .tensor, .block(rows: 48, columns: 40)] as [WeightScheme.Granularity])
  func theChosenScaleNeverLosesToNone(_ site: Site, _ granularity: WeightScheme.Granularity) throws
  {
    for symmetric in granularity.sharesRows ? [true] : [true, false] {
      try inTemporaryFolder { folder in
        let bench = try bench(folder, recipe(granularity, symmetric: symmetric))
        let seen = try bench.statistics(of: bench.source)
        var block = bench.block
        let before = try loss(bench, block, site, seen)
        let ones = [Float](repeating: 1, count: before.factorCount)
        let plain = before.value(ones, on: bench.compute)
        let reports = try bench.apply(
          AWQ(), to: &block, seen: seen, layers: bench.layers(foldingOnly: site))
        let scaled = try loss(bench, block, site, try bench.statistics(of: block.runnable()))
          .value(ones, on: bench.compute)
        #expect(reports.count <= 1 && reports.allSatisfy { $0.site == site })
        // Forward passes of the folded block differ in the last bits.
        #expect(scaled <= plain * (reports.isEmpty ? 1.001 : 1), "\(scaled) of \(plain)")
        // A symmetric scale leaves the largest value half a step off its code: no place for a loud
        // channel, and nothing may be won.
        if !symmetric { #expect(scaled < 0.9 * plain && reports.count == 1) }
        #expect(
          relativeError(
            try bench.contribution(of: block.runnable()), try bench.contribution(of: bench.source))
            <= 1e-5)
      }
    }
  }

  @Test func factorsForgetHowLoudTheWholeActivationIs() throws {
    try inTemporaryFolder { folder in
      let bench = try bench(folder, recipe(.group(32), symmetric: false))
      let seen = try bench.statistics(of: bench.source)
      for site in Site.llama {
        let loss = try loss(bench, bench.block, site, seen)
        var louder = seen
        louder[site]?.divide(
          by: [Float](repeating: 1 / 64, count: seen[site]?.channels ?? 0), on: bench.compute)
        let same = try self.loss(bench, bench.block, site, louder)
        for ratio in [0.05, 0.5, 1] as [Float] {
          let factors = loss.factors(ratio: ratio, isDuo: false)
          for (a, b) in zip(factors, same.factors(ratio: ratio, isDuo: false)) {
            #expect(abs(a / b - 1) < 1e-4)
          }
          let (low, high) = (factors.min() ?? 0, factors.max() ?? 0)
          #expect(abs(low * high - 1) < 1e-3 && low > 0)
          // The loudest channel is scaled up most.
          let means = try #require(seen[site]).meanMagnitude
          let index = bench.block.site(site).factorIndex
          let loudest = try #require(means.indices.max { means[$0] < means[$1] })
          #expect(factors[index[loudest]] > 1)
        }
        #expect(
          loss.factors(ratio: 0, isDuo: false) == [Float](repeating: 1, count: loss.factorCount))
      }
    }
  }
}
