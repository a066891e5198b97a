import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

/// Candidates against what each of them makes of a model on disk.
@Suite struct FormatChoiceTests {
  private let compute = Compute(threads: 1, precision: .f32)

  private static let model: TinyModel = {
    var model = TinyModel()
    (model.hidden, model.intermediate, model.headSize) = (256, 256, 64)
    return model
  }()

  /// A model in which integers suit some weights, and exponents those with one large value per row.
  private func write(_ model: TinyModel = model, to folder: String) throws -> Checkpoint {
    try model.write(in: folder, config: [:]) { name, values in
      let isHeavy = ["0.mlp.gate", "1.self_attn.v", "2.mlp.down", "o_proj"].contains {
        name.contains($0)
      }
      guard isHeavy, name.hasSuffix("_proj.weight") else { return }
      for i in values.indices {
        values[i] = i % model.hidden == i / model.hidden % 7 ? 0.5 : values[i] * 0.01
      }
    }
    return try Checkpoint(path: folder)
  }

  /// The candidates of a preset as recipes of one format.
  private func single(_ recipe: Recipe) -> [Recipe] {
    recipe.candidates.map { scheme in
      var one = recipe
      (one.scheme, one.candidates) = (scheme, [])
      if scheme.weights.format.scales == .float { one.steps = [Round()] }
      return one
    }
  }

  /// `Σ (w - ŵ)²` of each layer in a written checkpoint.
  private func errors(_ output: String, of source: Checkpoint) throws -> [String: Double] {
    let decoder = try source.decoderShape()
    let reader = try CompressedTensorsReader(Checkpoint(path: output))
    var errors: [String: Double] = [:]
    for block in decoder.blocks {
      for linear in block.linears {
        let path = block.path(of: linear.id)
        let (n, k) = (linear.outputs, linear.inputs)
        let exact = try source.matrix(path + ".weight", rows: n, columns: k).values(of: 0..<n)
        let found = try reader.weight(path, outputs: n, inputs: k).values(of: 0..<n)
        errors[path] = zip(exact, found).reduce(0) {
          $0 + pow(Double($1.0) - Double($1.1), 2)
        }
      }
    }
    return errors
  }

  private static let fused = [
    ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"],
    ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"],
  ]

  @Test(arguments: [Recipe.mofq8, .mofq4])
  func noGroupOfFusedLayersIsWorseThanInEitherFormat(_ recipe: Recipe) throws {
    try inTemporaryFolder { folder in
      let checkpoint = try write(to: folder + "/source")
      func run(_ recipe: Recipe, _ name: String) throws -> [String: Double] {
        try TinyRun(recipe).run(folder + "/source", to: folder + "/" + name)
        return try errors(folder + "/" + name, of: checkpoint)
      }
      let alone = try single(recipe).enumerated().map { try run($0.element, "one\($0.offset)") }
      let choice = try FormatChoice(
        checkpoint, recipe, exporter: CompressedTensors(), on: compute)
      let chosen = recipe.choosing(choice)
      let mixed = try run(chosen, "mixed")
      #expect(choice.groups.count == 4 * TinyModel().blocks && !choice.comparesOutputs)
      for block in 0..<TinyModel().blocks {
        for (index, names) in Self.fused.enumerated() {
          let paths = names.map { "model.layers.\(block).\($0)" }
          func sum(_ errors: [String: Double]) -> Double {
            paths.reduce(0) { $0 + (errors[$1] ?? .infinity) }
          }
          let group = try #require(choice.groups.first { Set($0.paths) == Set(paths) })
          for (found, expected) in zip(group.errors, alone.map(sum)) {
            #expect(abs(try #require(found) / expected - 1) < 1e-5, "\(paths)")
          }
          #expect(sum(mixed) == alone.map(sum).min(), "\(paths), \(index)")
        }
      }
      // Both formats were best somewhere, and the files say which each layer has.
      #expect(choice.counts.allSatisfy { $0 > 0 } && choice.counts.reduce(0, +) == 21)
      let config = try Checkpoint(path: folder + "/mixed").config["quantization_config"]
      #expect(config?["format"] == "mixed-precision")
      #expect(config?["config_groups"]?.object?.count == 2)
    }
  }

  /// The error is that of the layers' outputs when there are statistics.
  @Test func outputsDecideWithStatistics() throws {
    try inTemporaryFolder { folder in
      let checkpoint = try write(to: folder + "/source")
      let windows = (0..<3).map { someTokens(20, below: 128, seed: UInt64($0)) }
      _ = try CalibrateRun(checkpoint, windows: windows, on: compute).run(
        to: folder + "/statistics", progress: { _, _ in })
      let statistics = try StatisticsFile(path: folder + "/statistics")
      let choice = try FormatChoice(
        checkpoint, .mofq8, exporter: CompressedTensors(), statistics: statistics, on: compute)
      #expect(choice.comparesOutputs)
      let decoder = try checkpoint.decoderShape()
      let path = "model.layers.0.self_attn.o_proj"
      let group = try #require(choice.groups.first { $0.paths == [path] })
      let site = try #require(
        decoder.blocks[0].sites.first { $0.ids.contains(LinearID(rawValue: "self_attn.o_proj")) })
      let seen = ActivationStatistics(try statistics.record(0, site.site), moments: nil).sample
      let (k, rows) = (seen.columns, seen.rows)
      let exact = try checkpoint.matrix(path + ".weight", rows: 256, columns: k)
      let w = exact.values(of: 0..<256)
      for (scheme, error) in zip(choice.candidates, group.errors) {
        let codes = try QuantizedMatrix(
          rounding: exact, to: scheme.weights, scaleFormat: .f32, on: compute)
        let x = InputRounding(try #require(scheme.activations)).rounded(
          seen.values, columns: k, on: compute)
        let rounded = codes.decoded()
        var expected = 0.0
        for token in 0..<rows {
          for output in 0..<256 {
            var difference = 0.0
            for i in 0..<k {
              difference += Double(seen.values[token * k + i]) * Double(w[output * k + i])
              difference -= Double(x[token * k + i]) * Double(rounded[output * k + i])
            }
            expected += difference * difference
          }
        }
        #expect(abs(try #require(error) / expected - 1) < 1e-3, "\(scheme)")
      }
      for group in choice.groups {
        #expect(group.errors[group.chosen] == group.errors.compactMap(\.self).min())
      }
      #expect(throws: QuantizeError.self) {
        try FormatChoice(
          write(TinyModel(), to: folder + "/other"), .mofq8, exporter: CompressedTensors(),
          statistics: statistics, on: compute)
      }
    }
  }

  /// Groups of 32 that do not divide leave the format that fits.
  @Test func aFormatThatDoesNotFitIsLeftOut() throws {
    try inTemporaryFolder { folder in
      var model = Self.model
      model.intermediate = 272
      let checkpoint = try write(model, to: folder + "/source")
      let choice = try FormatChoice(
        checkpoint, .mofq4, exporter: CompressedTensors(), on: compute)
      let down = choice.groups.filter { $0.paths[0].contains("down_proj") }
      #expect(down.count == 3 && down.allSatisfy { $0.errors[0] == nil && $0.chosen == 1 })
      let chosen = Recipe.mofq4.choosing(choice)
      #expect(try TinyRun(chosen).plan(folder + "/source").refusals.isEmpty)
      #expect(try TinyRun(.mofq4).plan(folder + "/source").refusals.isEmpty)
    }
  }

  @Test func whatIsLoadedIsWhatIsWritten() throws {
    try inTemporaryFolder { folder in
      let checkpoint = try write(to: folder + "/source")
      let choice = try FormatChoice(
        checkpoint, .mofq8, exporter: CompressedTensors(), on: compute)
      let text = try TinyRun(Recipe.mofq8.choosing(choice)).run(
        folder + "/source", to: folder + "/out")
      #expect(text.verdict != nil)
      let tokens = someTokens(9, below: 128, seed: 4)
      let written = try LoadedModel(path: folder + "/out").decoder
      let rounded = try LoadedModel(path: folder + "/source", rounding: .mofq8, on: compute).decoder
      #expect(
        try written.logits(of: tokens, on: compute) == rounded.logits(of: tokens, on: compute))
    }
  }

  @Test func aRecipeThatHasNotChosenDoesNotRun() throws {
    try inTemporaryFolder { folder in
      _ = try write(to: folder + "/source")
      #expect(throws: QuantizeError.self) {
        try TinyRun(.mofq8).run(folder + "/source", to: folder + "/out")
      }
      #expect(!exists(folder + "/out"))
    }
  }

  /// An exception's layers are not compared.
  @Test func exceptionsStand() throws {
    try inTemporaryFolder { folder in
      let checkpoint = try write(to: folder + "/source")
      var recipe = Recipe.mofq8
      recipe.exceptions = [
        Recipe.Exception(pattern: "*.mlp.*", scheme: Recipe.w8a16.scheme),
        Recipe.Exception(pattern: "*.o_proj", scheme: nil),
      ]
      let choice = try FormatChoice(
        checkpoint, recipe, exporter: CompressedTensors(), on: compute)
      #expect(choice.groups.count == 3 && choice.groups.allSatisfy { $0.paths.count == 3 })
      for layer in try TinyRun(recipe.choosing(choice)).plan(folder + "/source").layers
      where layer.path.contains("mlp") {
        #expect(layer.scheme == Recipe.w8a16.scheme)
      }
    }
  }

  /// Engines join the experts of a block, so that one format is best for all of them together.
  @Test func allExpertsOfABlockTakeOneScheme() throws {
    try inTemporaryFolder { folder in
      let model = FamilyFixture.models(of: ["mixtral"])[0]
      try model.write(in: folder)
      let checkpoint = try Checkpoint(path: folder)
      // Integers second, so that what they win is an exception of the recipe.
      var recipe = Recipe.mofq8
      recipe.candidates = [Recipe.fp8.scheme, Recipe.w8a8.scheme]
      recipe.scheme = Recipe.fp8.scheme
      let choice = try FormatChoice(
        checkpoint, recipe, exporter: CompressedTensors(), on: compute)
      let chosen = recipe.choosing(choice)
      let plan = try TinyRun(chosen).plan(folder)
      #expect(plan.refusals.isEmpty, "\(plan.refusals)")
      for unit in plan.units where unit.block != nil {
        let experts = unit.layers.filter { $0.path.contains(".experts.") }
        #expect(experts.count > 3 && Set(experts.map(\.scheme)).count == 1)
      }
      for group in choice.groups {
        for layer in plan.layers where group.paths.contains(layer.path) {
          #expect(layer.scheme == choice.candidates[group.chosen])
        }
      }
      #expect(choice.counts[1] > 0 && choice.groups.contains { $0.paths.count > 3 })
      #expect(choice.counts.reduce(0, +) == plan.layers.count)
    }
  }
}
