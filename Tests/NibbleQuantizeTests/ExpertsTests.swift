import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

/// Facts about experts beyond those that FamilyTests, FamilyFoldTests and FamilyRunTests check for
/// every family.
@Suite struct ExpertsTests {
  private let compute = Compute(threads: 1, precision: .f32)
  private let mixtral = FamilyFixture.models(of: ["mixtral"])[0]
  private let shared = FamilyFixture.models(of: ["qwen2_moe"])[0]

  /// A run with one calibration token: it reaches two of the three experts of each block.
  private func starving(_ recipe: Recipe, _ model: FamilyFixture) -> TinyRun {
    var run = TinyRun(recipe)
    run.windows.calibration = [[5]]
    run.windows.heldOut = [model.tokens]
    return run
  }

  @Test(arguments: ["w8a8-best", "w4a16-gptq"])
  func expertsWithoutTokensAreCountedAndRoundedByTheirWeights(_ name: String) throws {
    try inTemporaryFolder { folder in
      try mixtral.write(in: folder + "/source")
      var recipe = try Recipe.preset(name, group: name == "w4a16-gptq" ? 4 : nil)
      recipe.steps = [recipe.steps[recipe.steps.count - 1]]
      recipe.scheme.weights.granularity = .channel
      recipe.scheme.weights.format = .int(bits: 8, symmetric: true)
      let report = try starving(recipe, mixtral).run(folder + "/source", to: folder + "/out")
      let coverage = try #require(report.experts)
      #expect(coverage.least == 0 && coverage.experts == 6)
      #expect(coverage.blocks.allSatisfy { $0.tokens.reduce(0, +) == 2 })
      #expect(coverage.starved.count == 2)
      // Without second moments, GPTQ is round-to-nearest with the scales that it searches.
      let starved = try #require(coverage.starved.first)
      let (block, expert) = (starved.prefix { $0 != "." }, starved.drop { $0 != "." }.dropFirst())
      let path = "model.layers.\(block).block_sparse_moe.experts.\(expert).w2"
      let source = try Checkpoint(path: folder + "/source")
      let weight = FloatRows(
        .float(try source.matrix(path + ".weight", rows: 24, columns: 20)), on: compute)
      let nearest = QuantizedMatrix(
        nearest: weight,
        to: WeightRounding(
          scheme: recipe.scheme.weights, scaleFormat: .f32, search: GPTQ().search), on: compute)
      let written = try CompressedTensorsReader(Checkpoint(path: folder + "/out"))
        .weight(path, outputs: 24, inputs: 20)
      guard case .quantized(let codes, _) = written else {
        Issue.record("\(path) is float")
        return
      }
      #expect(codes.codes.array == nearest.codes.array)
      let json = try Checkpoint.json(folder + "/out/nibble_report.json")
      #expect(json["experts"]?["least"]?.int == 0)
      #expect(json["experts"]?["without_tokens"]?.array?.count == 2)
    }
  }

  @Test func allTokensReachEachExpertWhereTheRecipeSaysSo() throws {
    try inTemporaryFolder { folder in
      try mixtral.write(in: folder + "/source")
      for (name, hasStatistics) in [("w8a8-smooth", true), ("w4a16-gptq", false)] {
        var recipe = try Recipe.preset(name, group: hasStatistics ? nil : 4)
        recipe.expertTokens = .all
        if !hasStatistics { recipe.scheme.weights.granularity = .channel }
        recipe.scheme.weights.format = .int(bits: 8, symmetric: true)
        let report = try starving(recipe, mixtral).run(
          folder + "/source", to: folder + "/out-" + name)
        #expect(report.experts?.blocks.map(\.tokens) == [[1, 1, 1], [1, 1, 1]])
      }
    }
  }

  @Test func staticInputsOfAnExpertWithoutTokensAreRefused() throws {
    try inTemporaryFolder { folder in
      try mixtral.write(in: folder + "/source")
      let error = #expect(throws: QuantizeError.self) {
        try starving(try .preset("fp8-static"), mixtral).run(
          folder + "/source", to: folder + "/out")
      }
      #expect(error.map { "\($0)" }?.contains("no calibration token reaches") == true)
      #expect(!exists(folder + "/out"))
    }
  }

  @Test func expertTokensAreForModelsWithExperts() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder, config: [:])
      var recipe = try Recipe.preset("w8a8-smooth")
      recipe.expertTokens = .all
      #expect(throws: QuantizeError.self) { try TinyRun(recipe).plan(folder) }
    }
  }

  /// Some experts have fewer tokens than a sample holds, and in one file some experts have none.
  @Test func statisticsOfExpertsMergeAndServeARun() throws {
    try inTemporaryFolder { folder in
      try shared.write(in: folder + "/source")
      let checkpoint = try Checkpoint(path: folder + "/source")
      let windows = [[5]] + (0..<4).map { someTokens(12, below: 48, seed: 40 + UInt64($0)) }
      func calibrate(_ windows: [[Int]], _ name: String) throws -> [CalibrateRun.Audit] {
        try CalibrateRun(checkpoint, windows: windows, on: compute).run(to: folder + "/" + name) {
          _, _ in
        }
      }
      let audits = try calibrate(windows, "whole")
      #expect(Set(audits.map(\.site)).contains(.down(expert: 3)))
      #expect(Set(audits.map(\.site)).contains(.sharedDown))
      // Each of 49 tokens reaches three of four experts, in each of three blocks.
      let reached = audits.filter { $0.site.isOfExpert }.reduce(0) { $0 + $1.tokens }
      #expect(reached == 3 * 3 * 49)
      let first = try calibrate([windows[0]], "a")
      #expect(first.filter { $0.site.isOfExpert }.contains { $0.tokens == 0 })
      _ = try calibrate(Array(windows[1...]), "b")
      try CalibrateRun.merge(
        [StatisticsFile(path: folder + "/b"), StatisticsFile(path: folder + "/a")],
        of: checkpoint, to: folder + "/merged")
      let paths = ["merged", "whole"].map { URL(fileURLWithPath: folder + "/" + $0) }
      #expect(try Data(contentsOf: paths[0]) == Data(contentsOf: paths[1]))
      // Statistics collected by the run and those read from the file give the same bytes.
      var run = TinyRun(try .preset("w8a8-smooth"))
      run.windows.calibration = windows
      run.windows.heldOut = [shared.tokens]
      try run.run(folder + "/source", to: folder + "/watched")
      let plan = try run.plan(folder + "/source")
      let from = QuantizeRun(
        checkpoint, plan, windows: run.windows,
        statistics: try StatisticsFile(path: folder + "/whole"),
        files: try CompanionFiles(of: checkpoint), on: compute)
      _ = try from.run(to: folder + "/read") { _ in }
      #expect(
        try files(folder + "/read")["model.safetensors"]
          == files(folder + "/watched")["model.safetensors"])
    }
  }

  /// The bytes are the same for any number of threads, and after a resumed run.
  @Test func bytesDoNotDependOnThreadsOrRestarts() throws {
    try inTemporaryFolder { folder in
      try shared.write(in: folder + "/source")
      var run = TinyRun(try .preset("w8a8-best"))
      run.windows.calibration = (0..<3).map { someTokens(12, below: 48, seed: 40 + UInt64($0)) }
      run.windows.heldOut = [shared.tokens]
      try run.run(folder + "/source", to: folder + "/one")
      run.threads = 3
      try run.runPart(folder + "/source", to: folder + "/three", units: 1)
      let report = try run.run(folder + "/source", to: folder + "/three")
      #expect(report.resumedUnits == 1 && report.experts?.experts == 12)
      #expect(
        try files(folder + "/three")["model.safetensors"]
          == files(folder + "/one")["model.safetensors"])
    }
  }

  @Test func routersAndSharedGatesStayFloatAndAreNamed() throws {
    try inTemporaryFolder { folder in
      try shared.write(in: folder)
      let plan = try TinyRun(.w8a8).plan(folder)
      let kept = plan.keptFloat.filter(\.isLinear).map(\.path)
      #expect(kept.contains("model.layers.0.mlp.gate"))
      #expect(kept.contains("model.layers.2.mlp.shared_expert_gate"))
      #expect(!plan.layers.contains { kept.contains($0.path) })
      // Three blocks, each with four attention linears, and three linears per expert and shared
      // expert.
      #expect(plan.layers.count == 3 * (4 + 3 * 5))
    }
  }

  /// The experts of gpt-oss are one stacked tensor. They stay float next to quantized attention.
  @Test func stackedExpertsStayFloat() throws {
    try inTemporaryFolder { folder in
      let model = FamilyFixture.models(of: ["gpt_oss"])[0]
      try model.write(in: folder + "/source")
      let run = starving(.w8a8, model)
      try run.run(folder + "/source", to: folder + "/out")
      let report = try Checkpoint.json(folder + "/out/nibble_report.json")
      let kept = report["kept_float"]?.array?.compactMap { $0["path"]?.string } ?? []
      #expect(kept.contains("model.layers.0.mlp.experts.gate_up_proj"))
      #expect(kept.contains("model.layers.1.mlp.router"))
      let plan = try run.plan(folder + "/source")
      #expect(plan.keptFloat.filter(\.isLinear).map(\.path).count == 2, "the routers")
      let written = try LoadedModel(path: folder + "/out").decoder
      let rounded = try LoadedModel(path: folder + "/source", rounding: .w8a8, on: compute).decoder
      let logits = try written.logits(of: model.tokens, on: compute)
      #expect(try logits == rounded.logits(of: model.tokens, on: compute))
      // Smoothing skips the site of router and experts, because none of its linears is quantized.
      var calibrated = run
      calibrated.recipe = try .preset("w8a8-smooth")
      let verdict = try calibrated.run(folder + "/source", to: folder + "/smooth").verdict
      #expect(try #require(verdict).kl < 0.1)
      // No engine is known to load float experts with layers in the FP8 format.
      let other = try Plan(
        Checkpoint(path: folder + "/source"), recipe: .fp8, exporter: FP8(),
        windows: run.windows.sizes)
      #expect("\(other.refusals)".contains("3 dimensions"))
    }
  }

  /// Engines join the experts of a block: one scheme for all of them, or none.
  @Test(
    arguments: [
      ("*.experts.0.*", nil, "stay float"), ("*.experts.*.w2", nil, "stay float"),
      ("*.experts.1.w1", LinearScheme.int4, "is not the scheme"),
      ("*.experts.*", nil, nil), ("*.block_sparse_moe.gate", nil, nil),
    ] as [(String, LinearScheme?, String?)])
  func expertsOfABlockHaveOneScheme(
    _ pattern: String, _ scheme: LinearScheme?, _ reason: String?
  ) throws {
    try inTemporaryFolder { folder in
      try mixtral.write(in: folder)
      var recipe = Recipe.w8a8
      recipe.exceptions = [Recipe.Exception(pattern: pattern, scheme: scheme)]
      let refusals = try TinyRun(recipe).plan(folder).refusals
      #expect(refusals.count == (reason == nil ? 0 : 1), "\(refusals)")
      if let reason { #expect("\(refusals)".contains(reason), "\(refusals)") }
      let plan = try TinyRun(.preset("w8a8-static")).plan(folder)
      #expect("\(plan.refusals)".contains("static int8"))
    }
  }

  /// All layers of the experts of a block are one group, so that what is kept float can be loaded.
  @Test func sensitivityMeasuresTheExpertsOfABlockTogether() throws {
    try inTemporaryFolder { folder in
      try shared.write(in: folder)
      let plan = try TinyRun(.w8a8).plan(folder)
      let found = try SensitivityRun(
        Checkpoint(path: folder), plan, windows: [shared.tokens], on: compute
      ).run { _, _ in }
      let sites = Set(found.groups.map(\.site))
      #expect(sites == [.attention, .output, .feedForward, .sharedDown, .experts])
      let experts = found.groups.filter { $0.site == .experts }
      #expect(experts.count == 3 && experts.allSatisfy { $0.paths.count == 12 })
    }
  }

  @Test func expertTokensAreNotChangedBehindStatistics() throws {
    try inTemporaryFolder { folder in
      try mixtral.write(in: folder + "/source")
      let checkpoint = try Checkpoint(path: folder + "/source")
      _ = try CalibrateRun(checkpoint, windows: [mixtral.tokens], on: compute).run(
        to: folder + "/statistics"
      ) { _, _ in }
      var recipe = try Recipe.preset("w8a8-smooth")
      recipe.expertTokens = .all
      let run = starving(recipe, mixtral)
      let quantize = QuantizeRun(
        checkpoint, try run.plan(folder + "/source"), windows: run.windows,
        statistics: try StatisticsFile(path: folder + "/statistics"),
        files: try CompanionFiles(of: checkpoint), on: compute)
      #expect(throws: QuantizeError.self) { try quantize.run(to: folder + "/out") { _ in } }
      recipe.steps = [Round()]
      #expect(throws: QuantizeError.self) { try starving(recipe, mixtral).plan(folder + "/source") }
    }
  }

  /// Configs that ask for more than there can be, or for nothing that makes sense.
  @Test func configsThatMakeNoSenseAreRefusedByField() throws {
    for (model, field, value, reason) in [
      (mixtral, "num_experts_per_tok", 4, "there are 3 experts"),
      (mixtral, "num_local_experts", 65_536, "up to 65536 experts in all"),
      (mixtral, "num_local_experts", "many", "a whole number"),
      (shared, "mlp_only_layers", ["first"], "a list of such"),
      (shared, "norm_topk_prob", 1, "not true or false"),
      (shared, "moe_intermediate_size", 0, "a whole number"),
    ] as [(FamilyFixture, String, JSON, String)] {
      try inTemporaryFolder { folder in
        try model.write(in: folder) { $0.set(field, value) }
        let error = #expect(throws: ModelError.self) { try Checkpoint(path: folder).decoderShape() }
        let text = error.map { "\($0)" } ?? ""
        #expect(text.contains(field) && text.contains(reason), "\(text)")
      }
    }
  }

  @Test func fewerExpertsOnDiskThanInTheConfigAreNamed() throws {
    try inTemporaryFolder { folder in
      try mixtral.write(in: folder) { $0.set("num_local_experts", 4) }
      let error = #expect(throws: ModelError.self) {
        let checkpoint = try Checkpoint(path: folder)
        _ = try Decoder(checkpoint.decoderShape(), from: checkpoint)
      }
      #expect(error.map { "\($0)" }?.contains("block_sparse_moe") == true)
    }
  }
}

extension LinearScheme {
  fileprivate static let int4 = LinearScheme(
    weights: WeightScheme(format: .int(bits: 4, symmetric: true), granularity: .channel),
    activations: .dynamicPerToken(.int8))
}
