import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct FoldTests {
  private func factors(_ count: Int, seed: UInt64) -> [Float] {
    var random = SplitMix(state: seed)
    return (0..<count).map { _ in exp2(Float.random(in: -4...4, using: &random)) }
  }

  private func exp2(_ x: Float) -> Float {
    let whole = x.rounded(.down)
    return Float(sign: .plus, exponent: Int(whole), significand: 1 + (x - whole))
  }

  private func factorCount(_ bench: StepBench, _ site: Site) -> Int {
    switch site {
    case .output: bench.config.attention.keyWidth
    case .down: bench.config.intermediate
    default: bench.config.hidden
    }
  }

  @Test(arguments: Site.llama, FloatFormat.allCases)
  func theBlockComputesWhatItDid(_ site: Site, _ format: FloatFormat) throws {
    for (heads, keyHeads, biases) in [(4, 2, true), (4, 4, false), (6, 1, true), (6, 3, false)] {
      try inTemporaryFolder { folder in
        var model = TinyModel()
        (model.heads, model.keyHeads, model.format) = (heads, keyHeads, format)
        model.blocks = 1
        let bench = try StepBench(model, in: folder, biases: biases)
        var block = bench.block
        #expect(
          relativeError(
            try bench.contribution(of: block.runnable()), try bench.contribution(of: bench.source))
            == 0)
        var seen = try bench.statistics(of: bench.source)
        let factors = factors(factorCount(bench, site), seed: UInt64(heads))
        block.fold(factors, into: site, &seen)
        // Each factor is what the stored norm says, so that only float arithmetic is left; a bias is
        // rounded as it is stored.
        let rounded: Double =
          biases && [.output, .down].contains(site)
          ? format == .f32 ? 0 : format == .f16 ? 0x1p-11 : 0x1p-8 : 0
        let change = relativeError(
          try bench.contribution(of: block.runnable()), try bench.contribution(of: bench.source))
        #expect(change <= 1e-5 + rounded, "\(heads), \(keyHeads)")
        try expectStatistics(seen, bench, block, rounded)
      }
    }
  }

  /// Statistics that were divided are those of the folded block.
  private func expectStatistics(
    _ seen: [Site: ActivationStatistics], _ bench: StepBench, _ block: WorkingBlock,
    _ rounded: Double
  ) throws {
    for (site, fresh) in try bench.statistics(of: block.runnable()) {
      let divided = try #require(seen[site])
      let tolerance = Float(3e-4 + 4 * rounded)
      for channel in 0..<fresh.channels {
        let (a, b) = (divided.columns.peaks[channel], fresh.columns.peaks[channel])
        #expect(abs(a - b) <= tolerance * (b + fresh.meanMagnitude[channel]), "\(site)")
      }
      #expect(
        relativeError(divided.sample.values, fresh.sample.values) <= Double(tolerance))
      let (a, b) = (try #require(divided.moments).values, try #require(fresh.moments).values)
      #expect(relativeError(a, b) <= Double(tolerance))
      #expect(divided.tokens == fresh.tokens)
    }
  }

  @Test(arguments: [Site.attention, .feedForward], FloatFormat.allCases)
  func aShiftedBlockComputesWhatItDid(_ site: Site, _ format: FloatFormat) throws {
    for biases in [true, false] {
      try inTemporaryFolder { folder in
        var model = TinyModel()
        (model.format, model.blocks) = (format, 1)
        let bench = try StepBench(model, in: folder, biases: biases)
        var block = bench.block
        var seen = try bench.statistics(of: bench.source)
        let factors = factors(bench.config.hidden, seed: 3)
        let centers = self.factors(bench.config.hidden, seed: 4).map { $0 - 2 }
        block.fold(factors, into: site, &seen)
        block.shift(by: centers, at: site, &seen)
        let change = relativeError(
          try bench.contribution(of: block.runnable()), try bench.contribution(of: bench.source))
        #expect(change <= 1e-5)
        try expectStatistics(seen, bench, block, 0)
        let norm =
          site == .attention ? block.runnable().inputNorm : block.runnable().postAttentionNorm
        let bias = try #require(norm.bias)
        #expect(bias == centers.map { format.round(-$0) })
        // A second shift adds to the first.
        block.shift(by: centers.map { -$0 }, at: site, &seen)
        let again = relativeError(
          try bench.contribution(of: block.runnable()), try bench.contribution(of: bench.source))
        #expect(again <= 1e-5)
      }
    }
  }

  @Test(arguments: Site.llama, FloatFormat.allCases)
  func whatIsStoredIsWhatRuns(_ site: Site, _ format: FloatFormat) throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      (model.format, model.blocks) = (format, 1)
      let bench = try StepBench(model, in: folder, biases: true)
      var block = bench.block
      #expect(block.changedTensors.isEmpty)
      var seen: [Site: ActivationStatistics] = [:]
      block.fold(
        factors(factorCount(bench, site), seed: 5), into: site, &seen)
      let runs = block.runnable()
      let (name, values): (String, [Float]) =
        switch site {
        case .attention: ("input_layernorm.weight", runs.inputNorm.weight)
        case .output: ("self_attn.v_proj.bias", try #require(runs.linears[.value]?.bias))
        case .feedForward: ("post_attention_layernorm.weight", runs.postAttentionNorm.weight)
        default: ("mlp.up_proj.bias", try #require(runs.linears[.up]?.bias))
        }
      #expect(Set(block.changedTensors.keys) == ["model.layers.0." + name])
      let bytes = try #require(block.changedTensors["model.layers.0." + name])
      #expect(format.decode(bytes) == values)
      #expect(values != format.decode(try bench.checkpoint.bytes(of: "model.layers.0." + name)))
    }
  }

  @Test(arguments: [FloatFormat.f16, .bf16, .f32])
  func aFactorThatTheNormCannotExpressIsOne(_ format: FloatFormat) throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      (model.format, model.blocks) = (format, 1)
      let largest: Float = format == .f16 ? 60000 : 3e38
      let smallest: Float = format == .f16 ? 6e-8 : 1.2e-38
      // Large norms meet small columns, as in a trained model.
      let bench = try StepBench(model, in: folder) { name, values in
        if name == "model.layers.0.input_layernorm.weight" {
          values[0] = largest
          values[1] = -largest
          values[2] = 0
          values[3] = smallest
          values[4] = -2
        } else if name.contains("self_attn"), !name.contains("o_proj") {
          for row in 0..<values.count / 64 { for c in 0..<2 { values[row * 64 + c] = 0 } }
        }
      }
      var block = bench.block
      var seen = try bench.statistics(of: bench.source)
      var factors = [Float](repeating: 0.25, count: 64)
      factors[2] = 3
      factors[3] = 1e6
      let before = try bench.activations(of: bench.source)
      block.fold(factors, into: .attention, &seen)
      let (old, new) = (bench.source.inputNorm.weight, block.runnable().inputNorm.weight)
      for channel in 0...3 { #expect(new[channel] == old[channel]) }
      #expect(new[4] == 4 * old[4], "a negative norm is folded too")
      #expect(new.allSatisfy { $0.isFinite })
      let after = try bench.activations(of: block.runnable())
      let (x, y) = (try #require(before[.attention]?[0]), try #require(after[.attention]?[0]))
      for token in 0..<24 { for c in 0...3 { #expect(x[token * 64 + c] == y[token * 64 + c]) } }
      let change = relativeError(
        try bench.contribution(of: block.runnable()), try bench.contribution(of: bench.source))
      // The largest bfloat16 and float32 overflow in the states of any model.
      #expect(format != .f16 || change <= 1e-5)
    }
  }

  @Test func aFactorThatABiasCannotExpressIsOne() throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      model.blocks = 1
      let bench = try StepBench(
        model, in: folder, biases: true,
        bias: { path, values in if path == "self_attn.v_proj" { values[3] = 60000 } })
      var block = bench.block
      var seen = try bench.statistics(of: bench.source)
      block.fold(
        [Float](repeating: 0.25, count: 32), into: .output, &seen)
      let bias = try #require(block.runnable().linears[.value]?.bias)
      let old = try #require(bench.source.linears[.value]?.bias)
      #expect(bias[3] == old[3] && bias[4] == 4 * old[4])
      let change = relativeError(
        try bench.contribution(of: block.runnable()), try bench.contribution(of: bench.source))
      #expect(change <= 1e-5)
    }
  }

  @Test func onlyWhatBecomesCodesIsFoldedInto() throws {
    try inTemporaryFolder { folder in
      let bench = try StepBench(TinyModel(), in: folder)
      let all = bench.layers()
      for site in Site.llama {
        let shape = bench.block.site(site)
        #expect(shape.folds(into: all))
        #expect(shape.folds(into: bench.layers(foldingOnly: site)))
        for linear in bench.layers(foldingOnly: site).keys {
          #expect(!shape.folds(into: all.filter { $0.key != linear }), "\(site) without \(linear)")
        }
      }
    }
  }
}
