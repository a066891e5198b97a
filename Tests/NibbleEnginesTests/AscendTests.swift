import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleEngines
@testable import NibbleQuantize

/// What msmodelslim 26.1.0 made of one random two-block Llama.
struct ModelSlim {
  static let source = try? SafetensorsFile(
    path: fixturePath("source_float32.safetensors", of: "msmodelslim"))

  let file: SafetensorsFile
  let folder: String

  init(_ name: String) throws {
    folder = fixturePath(name, of: "msmodelslim")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder)
    let weights = try #require(names.first { $0.hasSuffix(".safetensors") })
    file = try SafetensorsFile(path: folder + "/" + weights)
  }

  func bytes(_ name: String) throws -> Bytes { try #require(file.bytes(of: name)) }

  func floats(_ name: String) throws -> [Float] {
    let entry = try #require(file.entry(name))
    return try #require(entry.dtype.floatFormat).decode(try bytes(name))
  }

  var text: String {
    get throws {
      let names = try FileManager.default.contentsOfDirectory(atPath: folder)
      let name = try #require(names.first { $0.hasSuffix(".json") })
      return try String(contentsOfFile: folder + "/" + name, encoding: .utf8)
    }
  }

  /// The linears, by path.
  static let paths = (0..<2).flatMap { block in
    [
      "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    ].map { "model.layers.\(block).\($0)" }
  }

  static func weight(_ path: String) throws -> FloatRows {
    let source = try #require(source)
    let entry = try #require(source.entry(path + ".weight"))
    let bytes = try #require(source.bytes(of: path + ".weight"))
    return FloatRows(FloatFormat.f32.decode(bytes), columns: entry.shape[1])
  }

  static let config: JSON = [
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "rms_norm_eps": 1e-6,
    "torch_dtype": "float32",
  ]

  /// The source as a model's folder.
  static func writeSource(
    to folder: URL, format: FloatFormat = .f32
  ) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let source = try #require(source)
    var checkpoint = SmallCheckpoint()
    for entry in source.entries {
      let values = FloatFormat.f32.decode(try #require(source.bytes(of: entry.name)))
      checkpoint.set(
        entry.name, format.dtype, entry.shape, Bytes(format.encode(values.span)))
    }
    checkpoint.config = config
    try checkpoint.write(to: folder)
  }
}

@Suite struct AscendTests {
  private static let channel = WeightScheme(
    format: .int(bits: 8, symmetric: true), granularity: .channel)

  @Test(arguments: [
    ("w8a8", OutlierRule.none), ("w8a8s", .rowDeviation(3)), ("w8a8s_ns", .rowShare(0.05)),
    ("cosparse", .tensorShare(0.05)),
  ])
  func codesScalesAndBiasesAreTheToolsOwn(name: String, rule: OutlierRule) throws {
    let tool = try ModelSlim(name)
    for path in ModelSlim.paths {
      let range = InputRange(
        scale: try tool.floats(path + ".input_scale")[0],
        zero: Int32(try tool.floats(path + ".input_offset")[0]))
      let (matrix, _) = OutlierRound(rule: rule).round(
        try ModelSlim.weight(path), scaleFormat: .f32, on: oneThread)
      var layer = layer(
        LinearScheme(weights: Self.channel, activations: .staticAsymmetric), matrix.rows,
        matrix.columns, at: path)
      layer.modelFormat = .f32
      layer.isSparse = rule != .none
      let inputs = InputRounding(.staticAsymmetric, range: range)
      let encoded = Ascend().encode(matrix, bias: nil, inputs: inputs, of: layer)
      for tensor in Ascend().tensors(of: layer) {
        let entry = try #require(tool.file.entry(tensor.name))
        #expect(entry.dtype == tensor.dtype && entry.shape == tensor.shape, "\(tensor)")
        #expect(encoded[tensor.name]?.array == (try tool.bytes(tensor.name).array), "\(tensor)")
      }
      #expect(encoded.count == tool.file.entries.count { $0.name.hasPrefix(path + ".") })
    }
  }

  @Test func dynamicAndWeightOnlyTensorsAreTheToolsOwn() throws {
    for (name, symmetric) in [("dyn", true), ("w8a16", false)] {
      let tool = try ModelSlim(name)
      for path in ModelSlim.paths {
        let weight = try ModelSlim.weight(path)
        let scheme = WeightScheme(
          format: .int(bits: 8, symmetric: symmetric), granularity: .channel)
        let matrix =
          symmetric
          ? OutlierRound(rule: .none).round(weight, scaleFormat: .f32, on: oneThread).0
          : try QuantizedMatrix(
            rounding: weight.matrix, to: scheme, scaleFormat: .f32, on: oneThread)
        var layer = layer(
          LinearScheme(
            weights: scheme, activations: symmetric ? .dynamicPerToken(.int8) : nil),
          matrix.rows, matrix.columns, at: path)
        layer.modelFormat = .f32
        let encoded = Ascend().encode(matrix, inputs: nil, of: layer)
        for tensor in Ascend().tensors(of: layer) {
          #expect(
            encoded[tensor.name]?.array == (try tool.bytes(tensor.name).array), "\(tensor)")
        }
      }
    }
  }

  /// A whole run: every name, type and shape, and the description to the byte.
  @Test(arguments: [
    ("w8a8", FloatFormat.f32, OutlierRule.none), ("w8a8bf16", .bf16, .none),
    ("w8a8s", .f32, .rowDeviation(3)), ("dyn", .f32, .none), ("w8a16", .f32, .none),
    ("kv", .f32, .none), ("m1", .f32, .none), ("m2", .f32, .none), ("m4", .f32, .none),
  ])
  func runsWriteWhatTheToolWrites(
    name: String, format: FloatFormat, rule: OutlierRule
  ) throws {
    try inTemporaryFolder { folder in
      let tool = try ModelSlim(name)
      try Self.write(Self.recipe(name, rule), format, to: folder)
      let output = folder.appendingPathComponent("out").path
      let type = try #require(
        try JSON(parsing: Array(tool.text.utf8))["model_quant_type"]?.string
      ).lowercased()
      let file = try SafetensorsFile(
        path: output + "/quant_model_weight_\(type).safetensors")
      #expect(
        Set(file.entries.map { "\($0.name) \($0.dtype) \($0.shape)" })
          == Set(tool.file.entries.map { "\($0.name) \($0.dtype) \($0.shape)" }))
      let description = try String(
        contentsOfFile: output + "/quant_model_description_\(type).json", encoding: .utf8)
      #expect(description == (try tool.text))
      let config = try Checkpoint.json(output + "/config.json")
      #expect(config["quantize"]?.string == type)
      #expect(config["kv_quant"]?.string == (name == "kv" ? "C8" : nil))
    }
  }

  /// The tool's m1 tells how loud each channel was; its m4 then follows.
  @Test func smoothedNormsFollowTheToolsStrengths() throws {
    let (m1, m4) = (try ModelSlim("m1"), try ModelSlim("m4"))
    let (half, most) = (
      Migration(strength: try #require(Smooth.m1.strength)),
      Migration(strength: try #require(Smooth.m4.strength))
    )
    for block in 0..<2 {
      for (norm, readers) in [
        ("input_layernorm", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        ("post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"]),
      ] {
        let peaks = try readers.map {
          try ModelSlim.weight("model.layers.\(block).\($0)").columnStatistics(on: oneThread).peaks
        }.reduce([Float](repeating: 0, count: 64)) { zip($0, $1).map(max) }
        let name = "model.layers.\(block).\(norm).weight"
        // The source's norms are all one.
        for (channel, (a, b)) in zip(try m1.floats(name), try m4.floats(name)).enumerated() {
          let w = peaks[channel]
          let x = pow(1 / a * pow(w, half.weights), 1 / half.inputs)
          let expected = pow(x, most.inputs) / pow(w, most.weights)
          #expect(abs(1 / b / expected - 1) < 1e-5, "\(name) \(channel)")
        }
      }
    }
  }

  /// A shifted model runs from the disk as it was measured: norms with a bias, layers' biases in their
  /// integers.
  @Test func aShiftedModelRunsAsItWasMeasured() throws {
    try inTemporaryFolder { folder in
      var recipe = Self.recipe("w8a8", .none)
      recipe.steps.insert(Smooth(shifts: true), at: 0)
      let report = try Self.write(recipe, .f32, to: folder)
      let output = folder.appendingPathComponent("out").path
      let decoder = try LoadedModel(path: output).decoder
      #expect(decoder.blocks.contains { $0.norms["input_layernorm"]?.bias != nil })
      let source = try LoadedModel(path: folder.appendingPathComponent("source").path).decoder
      var windows = EvaluationWindows()
      windows.length = 16
      let evaluation = try Evaluation(
        decoder, against: source, tokens: (0..<16).map { ($0 * 5) % 128 }, windows: windows,
        on: oneThread
      ) { _, _, _ in }
      let measured = try #require(report.verdict).kl
      let read = try #require(evaluation.comparison).kl
      #expect(abs(read / measured - 1) < 0.02, "\(read), \(measured)")
    }
  }

  @Test func theOtherNameHasAVersionFirst() throws {
    try inTemporaryFolder { folder in
      try Self.write(Self.recipe("w8a8", .none), .f32, to: folder)
      let path = folder.appendingPathComponent("out/quant_model_description.json").path
      #expect(try String(contentsOfFile: path, encoding: .utf8) == ModelSlim("w8a8v1").text)
    }
  }

  @Test(arguments: ["w8a8", "w8a8s", "w8a8bf16", "dyn", "w8a16", "kv", "m1", "m2", "m4"])
  func theToolsOwnFilesRun(name: String) throws {
    try inTemporaryFolder { folder in
      let tool = try ModelSlim(name)
      for file in try FileManager.default.contentsOfDirectory(atPath: tool.folder) {
        try FileManager.default.copyItem(
          atPath: tool.folder + "/" + file, toPath: folder.path + "/" + file)
      }
      var config = ModelSlim.config
      config.set("quantize", .string(name))
      try Data(config.text().utf8).write(to: folder.appendingPathComponent("config.json"))
      let source = folder.appendingPathComponent("source")
      try ModelSlim.writeSource(to: source)
      let tokens = (0..<16).map { ($0 * 37) % 128 }
      var windows = EvaluationWindows()
      windows.length = 16
      let evaluation = try Evaluation(
        LoadedModel(path: folder.path).decoder,
        against: LoadedModel(path: source.path).decoder, tokens: tokens, windows: windows,
        on: oneThread
      ) { _, _, _ in }
      // Int8 costs a random model little; a wrong offset or scale costs nats.
      let divergence = try #require(evaluation.comparison).kl
      #expect(divergence < (name == "w8a8s" ? 0.05 : 0.02), "\(divergence)")
      #expect(divergence > 0)
    }
  }

  private static func recipe(_ name: String, _ rule: OutlierRule) -> Recipe {
    var scheme = LinearScheme(weights: channel, activations: .staticAsymmetric)
    if name == "dyn" { scheme.activations = .dynamicPerToken(.int8) }
    if name == "w8a16" { scheme.activations = nil }
    var recipe = Recipe(
      name: name, summary: "", scheme: scheme,
      steps: name == "w8a16" ? [Round()] : [OutlierRound(rule: rule)],
      maxKL: 10)
    if name == "kv" { recipe.cache = KeyValueScheme(.int8) }
    if let smooth = ["m1": Smooth.m1, "m2": .m2, "m4": .m4][name] {
      recipe.steps.insert(smooth, at: 0)
    }
    return recipe
  }

  @discardableResult
  private static func write(
    _ recipe: Recipe, _ format: FloatFormat, to folder: URL
  ) throws -> QuantizeRun.Report {
    let source = folder.appendingPathComponent("source")
    try ModelSlim.writeSource(to: source, format: format)
    let checkpoint = try Checkpoint(path: source.path)
    var windows = QuantizeRun.Windows()
    windows.calibration = (0..<4).map { window in (0..<16).map { (window * 7 + $0 * 31) % 128 } }
    windows.heldOut = [(0..<16).map { ($0 * 5) % 128 }]
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: Ascend(), windows: windows.sizes)
    return try QuantizeRun(
      checkpoint, plan, windows: windows, files: try CompanionFiles(of: checkpoint), on: oneThread
    ).run(to: folder.appendingPathComponent("out").path, progress: { _ in })
  }
}
