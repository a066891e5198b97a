import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleExport
@testable import NibbleQuantize

@Suite struct EngineFormatTests {
  /// What a recipe makes of a small model, through the files of a format, to logits.
  private func logits(
    _ recipe: Recipe, _ format: EngineFormat, change: (inout TinyModel) -> Void = { _ in }
  ) throws -> [Float] {
    try inTemporaryFolder { folder in
      let (source, output) = (folder.appendingPathComponent("source"), folder.path + "/out")
      var model = TinyModel()
      change(&model)
      try model.write(to: source)
      let checkpoint = try Checkpoint(path: source.path)
      let plan = try Plan(
        checkpoint, recipe: recipe, exporter: format.exporter, windows: WindowSizes())
      #expect(plan.refusals.isEmpty, "\(plan.refusals)")
      let run = QuantizeRun(
        checkpoint, plan, windows: QuantizeRun.Windows(), files: CompanionFiles(of: checkpoint),
        on: oneThread)
      _ = try run.run(to: output, progress: { _ in })
      let loaded = try LoadedModel(path: output)
      let method = loaded.checkpoint.config["quantization_config"]?["quant_method"]
      #expect(method == .string(format.rawValue))
      var session = try Session(loaded.decoder, capacity: 9, on: oneThread)
      return try session.append([3, 1, 4, 1, 5, 9, 2, 6])
    }
  }

  /// Two formats that hold the same codes and scales run the same.
  @Test func awqRunsAsCompressedTensorsDoes() throws {
    let recipe = try Recipe.preset("w4a16", group: 32, symmetric: false)
    #expect(try logits(recipe, .awq) == logits(recipe, .compressedTensors))
  }

  @Test func fp8RunsAsCompressedTensorsDoes() throws {
    var recipe = Recipe.fp8
    recipe.scheme.weights.granularity = .tensor
    #expect(try logits(recipe, .fp8) == logits(recipe, .compressedTensors))
    recipe.scheme.weights.granularity = .block(rows: 128, columns: 128)
    recipe.scheme.activations = .dynamicPerGroup(128)
    let whole: (inout TinyModel) -> Void = { model in
      (model.hidden, model.intermediate, model.blocks) = (128, 256, 1)
      (model.heads, model.keyHeads, model.headSize) = (4, 4, 32)
    }
    #expect(
      try logits(recipe, .fp8, change: whole)
        == logits(recipe, .compressedTensors, change: whole))
  }

  @Test(arguments: ["gptq", "bitsandbytes", "", "AWQ"])
  func otherFormatsAreNamed(_ method: String) throws {
    try inTemporaryFolder { folder in
      let model = TinyModel()
      try model.write(to: folder)
      var config = model.config
      config.set("quantization_config", ["quant_method": .string(method)])
      try Data(config.text().utf8).write(to: folder.appendingPathComponent("config.json"))
      let error = try #require(throws: ModelError.self) { try LoadedModel(path: folder.path) }
      #expect("\(error)".contains("\"\(method)\""))
    }
  }
}
