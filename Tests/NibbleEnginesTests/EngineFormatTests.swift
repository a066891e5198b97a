import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleEngines
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
      #expect(try loaded.checkpoint.quantizationMethod() == format.name)
      var session = try Session(loaded.decoder, capacity: 9, on: oneThread)
      return try session.append([3, 1, 4, 1, 5, 9, 2, 6])
    }
  }

  /// Two formats that hold the same codes and scales run the same.
  @Test func awqRunsAsCompressedTensorsDoes() throws {
    let recipe = try Recipe.preset("w4a16", group: 32, symmetric: false)
    #expect(try logits(recipe, .awq) == logits(recipe, .compressedTensors))
  }

  @Test(arguments: [EngineFormat.gptq, .mlx], ["w4a16", "w8a16"])
  func integersRunAsCompressedTensorsDoes(_ format: EngineFormat, _ preset: String) throws {
    let recipe = try Recipe.preset(preset, group: 32)
    let wide: (inout TinyModel) -> Void = { model in
      (model.hidden, model.intermediate) = (64, 128)
      (model.heads, model.keyHeads, model.headSize) = (2, 1, 32)
    }
    let expected = try logits(recipe, .compressedTensors, change: wide)
    #expect(try logits(recipe, format, change: wide) == expected)
  }

  @Test func mxfp4RunsInMLXAsInCompressedTensors() throws {
    #expect(try logits(.mxfp4, .mlx) == logits(.mxfp4, .compressedTensors))
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

  /// Numbers that no engine reads run in Nibble: as a float model that holds the rounded values.
  @Test(arguments: ["e2m5", "e3m4", "e5m2", "e3m2", "e2m3", "e2m1"])
  func minifloatsRunWithoutBeingWritten(_ name: String) throws {
    try inTemporaryFolder { folder in
      let format = try #require(Minifloat.named.first { "\($0)" == name })
      let path = folder.path
      try TinyModel().write(to: folder)
      let recipe = Recipe(
        name: name, summary: "",
        scheme: LinearScheme(
          weights: WeightScheme(format: .minifloat(format), granularity: .channel)), maxKL: 1)
      let source = try Checkpoint(path: path)
      var model = TinyModel()
      model.format = .f32
      let rounded = folder.appendingPathComponent("rounded")
      // By the definition of the scale, and the table of the format.
      try model.write(to: rounded) { name, values in
        guard name.hasSuffix("_proj.weight"),
          let shape = source.tensor(name)?.shape,
          let matrix = try? source.matrix(name, rows: shape[0], columns: shape[1])
        else {
          for i in values.indices { values[i] = FloatFormat.f16.round(values[i]) }
          return
        }
        let numbers = format.values.filter(\.isFinite)
        values = (0..<shape[0]).flatMap { row in
          let line = matrix.values(of: row..<row + 1)
          let scale = (line.map(abs).max() ?? 0) / format.largest
          return line.map { x in
            // The code is the index, of which ties take the even one.
            let best = numbers.indices.min {
              (abs(numbers[$0] - x / scale), $0 % 2) < (abs(numbers[$1] - x / scale), $1 % 2)
            }
            return numbers[best ?? 0] * scale
          }
        }
      }
      let tokens = [3, 1, 4, 1, 5, 9, 2, 6]
      func logits(_ decoder: Decoder) throws -> [Float] {
        var session = try Session(decoder, capacity: 9, on: oneThread)
        return try session.append(tokens)
      }
      let found = try logits(LoadedModel(path: path, rounding: recipe, on: oneThread).decoder)
      let expected = try logits(LoadedModel(path: rounded.path).decoder)
      // The same products, summed in another order.
      #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-3 })
      #expect(try found != logits(LoadedModel(path: path).decoder))
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

  @Test(arguments: ["quark", "bitsandbytes", "", "AWQ"])
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
