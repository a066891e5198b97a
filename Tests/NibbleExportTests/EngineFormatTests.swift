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
        checkpoint, plan, windows: QuantizeRun.Windows(), files: try CompanionFiles(of: checkpoint),
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
    recipe.scheme.activations = .dynamicPerGroup(.e4m3, 128)
    let whole: (inout TinyModel) -> Void = { model in
      (model.hidden, model.intermediate, model.blocks) = (128, 256, 1)
      (model.heads, model.keyHeads, model.headSize) = (4, 4, 32)
    }
    #expect(
      try logits(recipe, .fp8, change: whole)
        == logits(recipe, .compressedTensors, change: whole))
  }

  @Test(arguments: [Recipe.w8a8, .fp8, .mxfp4, .nvfp4])
  func aModelRoundedAsItIsLoadedRunsAsTheWrittenOneDoes(_ recipe: Recipe) throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(to: folder)
      let loaded = try LoadedModel(path: folder.path, rounding: recipe, on: oneThread)
      var session = try Session(loaded.decoder, capacity: 9, on: oneThread)
      let direct = try session.append([3, 1, 4, 1, 5, 9, 2, 6])
      #expect(try direct == logits(recipe, .compressedTensors))
      #expect(throws: QuantizeError.self) {
        try LoadedModel(path: folder.path, rounding: .w8a8Smooth, on: oneThread)
      }
    }
  }

  private static let fp8PerTensor: Recipe = {
    var recipe = Recipe.fp8
    recipe.scheme.weights.granularity = .tensor
    return recipe
  }()

  private static let nvfp4Feedback: Recipe = {
    var recipe = Recipe.nvfp4
    recipe.steps = [GPTQ()]
    return recipe
  }()

  /// vLLM puts query, key and value into one matrix, and gate and up, with the largest of their
  /// floats of all scales.
  @Test(arguments: [
    (fp8PerTensor, EngineFormat.fp8, "weight_scale"),
    (.nvfp4, .compressedTensors, "weight_global_scale"),
    (nvfp4Feedback, .compressedTensors, "weight_global_scale"),
  ])
  func layersThatAnEngineFusesShareTheirFloat(
    _ recipe: Recipe, _ format: EngineFormat, _ name: String
  ) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder.appendingPathComponent("source"), folder.path + "/out")
      try TinyModel().write(to: source)
      let checkpoint = try Checkpoint(path: source.path)
      var windows = QuantizeRun.Windows()
      if recipe.needsCalibration { windows.calibration = [[3, 1, 4, 1, 5, 9, 2, 6]] }
      let plan = try Plan(
        checkpoint, recipe: recipe, exporter: format.exporter, windows: windows.sizes)
      _ = try QuantizeRun(
        checkpoint, plan, windows: windows, files: try CompanionFiles(of: checkpoint),
        on: oneThread
      ).run(to: output, progress: { _ in })
      let file = try SafetensorsFile(path: output + "/model.safetensors")
      for (module, names) in [
        ("self_attn", ["q_proj", "k_proj", "v_proj"]), ("mlp", ["gate_proj", "up_proj"]),
        ("self_attn", ["o_proj"]),
      ] {
        let paths = names.map { "model.layers.0.\(module).\($0)" }
        let peaks = try paths.map { path in
          let shape = try #require(checkpoint.tensor(path + ".weight")?.shape)
          let matrix = try checkpoint.matrix(path + ".weight", rows: shape[0], columns: shape[1])
          return matrix.values(of: 0..<shape[0]).map(abs).max() ?? 0
        }
        let scales = try paths.map { path in
          let bytes = file.bytes(of: "\(path).\(name)") ?? Bytes([])
          return try #require(FloatFormat.f32.decode(bytes).first)
        }
        #expect(Set(scales).count == 1)
        let peak = peaks.max() ?? 0
        let expected = name == "weight_scale" ? peak / 448 : 2688 / peak
        #expect(abs(scales[0] - expected) <= scales[0] * 1e-6)
      }
    }
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
