import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct CalibratedRunTests {
  /// A preset with groups that fit the small model.
  static func fitted(_ name: String) throws -> Recipe {
    func fit(_ scheme: inout LinearScheme) {
      guard scheme.weights.format.group == nil, case .group = scheme.weights.granularity else {
        return
      }
      scheme.weights.granularity = .group(32)
    }
    var recipe = try Recipe.preset(name)
    fit(&recipe.scheme)
    for index in recipe.exceptions.indices {
      guard var scheme = recipe.exceptions[index].scheme else { continue }
      fit(&scheme)
      recipe.exceptions[index].scheme = scheme
    }
    return recipe
  }

  static func run(_ recipe: Recipe) -> TinyRun {
    var run = TinyRun(recipe)
    run.windows.calibration = (0..<6).map { someTokens(24, below: 128, seed: 50 + UInt64($0)) }
    run.windows.heldOut = (0..<3).map { someTokens(16, below: 128, seed: 80 + UInt64($0)) }
    return run
  }

  private static func model(_ format: FloatFormat = .f16) -> TinyModel {
    var model = TinyModel()
    (model.blocks, model.format) = (2, format)
    return model
  }

  /// KL divergence from the source, read back from disk.
  static func divergence(
    _ output: String, from source: String, _ tokens: [Int]
  ) throws -> (kl: Double, top1: Double) {
    var windows = EvaluationWindows()
    windows.length = 16
    let evaluation = try Evaluation(
      LoadedModel(path: output).decoder, against: LoadedModel(path: source).decoder, tokens: tokens,
      windows: windows, on: Compute(threads: 1, precision: .f32)
    ) { _, _, _ in }
    let comparison = try #require(evaluation.comparison)
    return (comparison.kl, comparison.top1)
  }

  /// Those with candidates have a format to be chosen first: FormatChoiceTests.
  @Test(arguments: Recipe.presets.filter(\.candidates.isEmpty).map(\.name))
  func everyPresetWritesTheModelItMeasured(_ name: String) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try Self.model(name.hasPrefix("w4") ? .bf16 : .f16).write(in: source, config: [:])
      let run = Self.run(try Self.fitted(name))
      var errors: [Double] = []
      let report = try run.run(source, to: output) { step in
        if let error = step.runningError { errors.append(error) }
      }
      #expect(errors.count == 2 && errors.allSatisfy { $0 > 0 && $0 < 1 }, "\(errors)")
      let verdict = try #require(report.verdict)
      let found = try Self.divergence(output, from: source, run.windows.heldOut.flatMap(\.self))
      // The same arithmetic in the same order: only the way to the numbers differs.
      #expect(abs(found.kl - verdict.kl) <= 1e-6 + 1e-4 * verdict.kl, "\(found.kl), \(verdict.kl)")
      #expect(found.top1 == verdict.top1)
      #expect(verdict.kl > 0 && verdict.kl < 2)
      #expect(report.layers.count == 14)
      for layer in report.layers { #expect((layer.signalToNoise ?? 0) > 10, "\(layer)") }
      let planned = try run.plan(source).outputBytes
      #expect(report.bytes == planned)
    }
  }

  /// The verdict is that of the model with the cache that it will have.
  @Test(arguments: KeyValueFormat.allCases)
  func theVerdictCountsTheCache(_ format: KeyValueFormat) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try Self.model().write(in: source, config: [:])
      var run = Self.run(.w8a8Smooth)
      // Longer than the tokens that an int4 cache keeps in float.
      run.windows.heldOut = (0..<2).map { someTokens(80, below: 96, seed: 60 + UInt64($0)) }
      let plain = try #require(run.run(source, to: folder + "/plain").verdict).kl
      run.recipe.cache = KeyValueScheme(format)
      let verdict = try #require(run.run(source, to: output).verdict)
      let (model, base) = (try LoadedModel(path: output), try LoadedModel(path: source))
      var windows = EvaluationWindows()
      windows.length = 80
      let found = try #require(
        Evaluation(
          model.decoder, against: base.decoder, tokens: run.windows.heldOut.flatMap(\.self),
          windows: windows, keeping: format.cache, scales: model.cacheScales,
          on: Compute(threads: 1, precision: .f32)
        ) { _, _, _ in }.comparison)
      #expect(abs(found.kl - verdict.kl) <= 1e-6 + 1e-4 * verdict.kl, "\(found.kl), \(verdict.kl)")
      #expect(abs(verdict.kl - plain) > 1e-6, "\(verdict.kl), \(plain)")
    }
  }

  @Test(arguments: Recipe.presets.filter(\.needsCalibration).map(\.name))
  func threadsAndStopsDoNotChangeAByte(_ name: String) throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try Self.model().write(in: source, config: [:])
      var run = Self.run(try Self.fitted(name))
      try run.run(source, to: folder + "/one")
      let whole = try files(folder + "/one")
      run.threads = 3
      try run.run(source, to: folder + "/three")
      #expect(try files(folder + "/three") == whole, "three threads")
      for stop in 1...2 {
        let output = folder + "/stopped\(stop)"
        run.threads = stop
        try run.runPart(source, to: output, units: stop)
        run.threads = 3 - stop
        #expect(try run.run(source, to: output).resumedUnits == stop)
        #expect(try files(output) == whole, "stopped after \(stop)")
      }
    }
  }

  @Test func otherCalibrationTextGivesAnotherModel() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try Self.model().write(in: source, config: [:])
      for name in ["w8a8-smooth", "w4a16-awq", "w4a16-gptq", "fp8-static"] {
        var run = Self.run(try Self.fitted(name))
        try run.run(source, to: folder + "/\(name)-1")
        run.windows.calibration = [someTokens(40, below: 128, seed: 1234)]
        try run.run(source, to: folder + "/\(name)-2")
        let (one, two) = (try files(folder + "/\(name)-1"), try files(folder + "/\(name)-2"))
        #expect(one["model.safetensors"] != two["model.safetensors"], "\(name)")
      }
    }
  }

  /// Embeddings from eight directions: what enters the linears is correlated, as text is.
  private static func correlate(_ name: String, _ values: inout [Float]) {
    guard name == "model.embed_tokens.weight" else { return }
    var random = SplitMix(state: 77)
    let directions = (0..<8 * 64).map { _ in Float.random(in: -1...1, using: &random) }
    for row in 0..<128 {
      let mix = (0..<8).map { _ in Float.random(in: -1...1, using: &random) }
      for c in 0..<64 {
        var value = 0.1 * values[row * 64 + c]
        for d in 0..<8 { value += mix[d] * directions[d * 64 + c] }
        values[row * 64 + c] = value
      }
    }
  }

  @Test func calibratedFourBitsAreCloserThanRoundedToNearest() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try Self.model(.f32).write(in: source, config: [:], change: Self.correlate)
      var divergences: [String: Double] = [:]
      for name in ["w4a16", "w4a16-gptq", "w4a16-awq", "w4a16-best"] {
        var run = Self.run(try Self.fitted(name))
        run.windows.calibration = (0..<16).map {
          someTokens(48, below: 128, seed: 300 + UInt64($0))
        }
        run.windows.heldOut = (0..<12).map { someTokens(32, below: 128, seed: 400 + UInt64($0)) }
        divergences[name] = try run.run(source, to: folder + "/" + name).verdict?.kl
      }
      let plain = try #require(divergences["w4a16"])
      #expect(try #require(divergences["w4a16-gptq"]) < 0.8 * plain, "\(divergences)")
      #expect(try #require(divergences["w4a16-best"]) < 0.8 * plain, "\(divergences)")
      #expect(try #require(divergences["w4a16-awq"]) < plain, "\(divergences)")
    }
  }

  /// The same function with loud channels: powers of two in what feeds each site, and out of the columns
  /// that read it.
  private static func loudTwin(_ name: String, _ values: inout [Float]) {
    let loud = [5: Float(64), 17: 128, 40: 64]
    func scaleRow(_ row: Int, _ factor: Float) {
      for i in 0..<64 { values[row * 64 + i] *= factor }
    }
    func scaleColumn(_ column: Int, _ columns: Int, _ factor: Float) {
      for i in stride(from: column, to: values.count, by: columns) { values[i] *= factor }
    }
    if name.hasSuffix("layernorm.weight") {
      for (channel, factor) in loud { values[channel] *= factor }
    } else if ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"].contains(where: name.contains)
    {
      for (channel, factor) in loud { scaleColumn(channel, 64, 1 / factor) }
      // Value head 1, and an output of up.
      if name.contains("v_proj") { scaleRow(19, 64) }
      if name.contains("up_proj") { scaleRow(33, 64) }
    } else if name.contains("o_proj") {
      // The query heads 2 and 3 read value head 1: 32 + 3 and 48 + 3.
      for column in [35, 51] { scaleColumn(column, 64, 1.0 / 64) }
    } else if name.contains("down_proj") {
      scaleColumn(33, 96, 1.0 / 64)
    }
  }

  @Test func loudChannelsBreakPlainIntegersAndNotSmoothedOnes() throws {
    try inTemporaryFolder { folder in
      let (quiet, loud) = (folder + "/quiet", folder + "/loud")
      try Self.model(.f32).write(in: quiet, config: [:])
      try Self.model(.f32).write(in: loud, config: [:], change: Self.loudTwin)
      let tokens = (0..<3).flatMap { someTokens(16, below: 128, seed: 80 + UInt64($0)) }
      // Powers of two move without a rounding.
      #expect(try Self.divergence(loud, from: quiet, tokens).kl < 1e-12)
      func kl(_ source: String, _ name: String) throws -> Double {
        try #require(
          Self.run(try Self.fitted(name)).run(source, to: source + "-" + name).verdict
        ).kl
      }
      let plain = try kl(quiet, "w8a8")
      let broken = try kl(loud, "w8a8")
      #expect(broken > 30 * plain, "\(plain), \(broken)")
      for name in ["w8a8-smooth", "w8a8-best"] {
        let (smoothed, twin) = (try kl(quiet, name), try kl(loud, name))
        #expect(twin < 3 * plain && twin < 0.1 * broken, "\(name): \(twin) of \(broken)")
        #expect(smoothed < 1.5 * plain, "\(name): \(smoothed), \(plain)")
      }
      let levels = try ["w8a8-o1", "w8a8-o2", "w8a8-o3"].map { try kl(loud, $0) }
      for level in levels { #expect(level < 0.3 * broken, "\(levels) of \(broken)") }
    }
  }

  @Test func withoutCalibrationTextACalibratedRecipeIsAnError() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try Self.model().write(in: source, config: [:])
      for name in ["w8a8-smooth", "w4a16-gptq", "w4a16-awq", "w8a8-static"] {
        var run = Self.run(try Self.fitted(name))
        for heldOut in [run.windows.heldOut, []] {
          (run.windows.calibration, run.windows.heldOut) = ([], heldOut)
          #expect(throws: QuantizeError.self, "\(name)") {
            try run.run(source, to: folder + "/out")
          }
          #expect(!exists(folder + "/out"))
        }
      }
      var unknown = Self.model()
      unknown.modelType = "lama-ish"
      try unknown.write(in: folder + "/unknown", config: [:])
      for name in ["w8a8-static", "w4a16-gptq"] {
        #expect(throws: QuantizeError.self, "\(name)") {
          try Self.run(try Self.fitted(name)).run(folder + "/unknown", to: folder + "/out")
        }
      }
    }
  }

  @Test(arguments: Recipe.presets.filter(\.needsCalibration).map(\.name))
  func activationsThatOverflowEndWithoutATrap(_ name: String) throws {
    var refused: [String] = []
    for (part, size) in [
      ("layernorm", 1e30), ("up_proj", 1e25), ("q_proj", 1e20), ("embed", 1e-38), ("v_proj", 3e38),
      ("o_proj", 0x1p-130),
    ] as [(String, Float)] {
      try inTemporaryFolder { folder in
        let source = folder + "/source"
        try Self.model(.f32).write(in: source, config: [:]) { tensor, values in
          if tensor.contains(part) { values = values.map { min(max($0, -1), 1) * size } }
        }
        do {
          let report = try Self.run(try Self.fitted(name)).run(source, to: folder + "/out")
          // What was written is finite, or the verdict says that it is not.
          let file = try SafetensorsFile(path: folder + "/out/model.safetensors")
          for entry in file.entries {
            guard let format = entry.dtype.floatFormat else { continue }
            let values = format.decode(try #require(file.bytes(of: entry.name)))
            let isFinite = values.allSatisfy(\.isFinite)
            #expect(isFinite, "\(part): \(entry.name)")
          }
          #expect(report.verdict != nil, "\(part)")
        } catch let error as QuantizeError {
          refused.append("\(part): \(error)")
        }
      }
    }
    // Each refusal says what was infinite, and where.
    for error in refused {
      #expect(
        ["infinite", "not a number", "no scale", "not finite"].contains { error.contains($0) },
        "\(error)")
    }
  }

  /// A channel of a norm and an output of up that are always zero; one activation for every token;
  /// values near the largest of float16 in what feeds the linears.
  private static let awkward: [(String, @Sendable (String, inout [Float]) -> Void)] = [
    (
      "silent channels",
      { name, values in
        if name.contains("layernorm") { values[5] = 0 }
        if name.contains("up_proj") { for i in 0..<64 { values[7 * 64 + i] = 0 } }
        if name.contains("v_proj") { for i in 0..<64 { values[3 * 64 + i] = 0 } }
      }
    ),
    (
      "constant activations",
      { name, values in
        guard name == "model.embed_tokens.weight" else { return }
        for i in 64..<values.count { values[i] = values[i % 64] }
      }
    ),
    (
      "near the limit of float16",
      { name, values in
        if name.contains("layernorm") { values[9] = 60_000 }
        if ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"].contains(where: name.contains) {
          for row in 0..<values.count / 64 { values[row * 64 + 9] *= 0x1p-10 }
        }
        if name.contains("o_proj") { for i in 0..<8 { values[i * 64 + 9] = 65_504 } }
      }
    ),
  ]

  @Test(arguments: Recipe.presets.filter(\.needsCalibration).map(\.name))
  func awkwardModelsBecomeFiniteOnes(_ name: String) throws {
    for (what, change) in Self.awkward {
      try inTemporaryFolder { folder in
        let (source, output) = (folder + "/source", folder + "/out")
        try Self.model(.f16).write(in: source, config: [:], change: change)
        let run = Self.run(try Self.fitted(name))
        let verdict = try #require(try run.run(source, to: output).verdict)
        // Nothing is lost but the last digits.
        #expect(verdict.kl.isFinite && verdict.kl >= -1e-6, "\(what): \(verdict)")
        #expect(verdict.perplexity.isFinite, "\(what)")
        // Reading it back refuses scales that are not above zero and vectors that are not finite.
        let found = try Self.divergence(output, from: source, run.windows.heldOut.flatMap(\.self))
        #expect(found.kl.isFinite, "\(what)")
        // Where a channel says nothing, nothing is lost by it.
        if what == "silent channels" { #expect(verdict.kl < 0.5, "\(what): \(verdict.kl)") }
      }
    }
  }

  @Test(arguments: ["w8a8-smooth", "w8a8-static", "w4a16-awq", "w4a16-gptq"])
  func aNormThatIsNoNumberIsNamed(_ name: String) throws {
    for norm in ["input_layernorm", "post_attention_layernorm"] {
      for bad in [Float.nan, .infinity] {
        try inTemporaryFolder { folder in
          let source = folder + "/source"
          try Self.model(.f32).write(in: source, config: [:]) { tensor, values in
            if tensor == "model.layers.1.\(norm).weight" { values[7] = bad }
          }
          #expect(
            throws: QuantizeError.model(
              .nonFinite(tensor: "model.layers.1.\(norm).weight", index: 7))
          ) { try Self.run(try Self.fitted(name)).run(source, to: folder + "/out") }
          #expect(!exists(folder + "/out"))
        }
      }
    }
  }
}
