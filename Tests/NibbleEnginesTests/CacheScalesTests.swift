import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleEngines
@testable import NibbleQuantize

@Suite struct CacheScalesTests {
  private static let keyHeads = 2
  private static let headSize = 16

  private func model() -> TinyModel {
    var model = TinyModel()
    (model.blocks, model.format) = (2, .f32)
    return model
  }

  private let windows = (0..<4).map { window -> [Int] in
    var random = SplitMix(state: 900 + UInt64(window))
    return (0..<20 + window).map { _ in Int(random.next() % 128) }
  }

  private func run(
    _ source: String, to output: String, _ recipe: Recipe, _ format: EngineFormat
  ) throws {
    let checkpoint = try Checkpoint(path: source)
    var inputs = QuantizeRun.Windows()
    inputs.calibration = windows
    inputs.heldOut = [[1, 2, 3, 4, 5, 6]]
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: format.exporter, windows: inputs.sizes)
    _ = try QuantizeRun(
      checkpoint, plan, windows: inputs, files: try CompanionFiles(of: checkpoint), on: oneThread
    ).run(to: output, progress: { _ in })
  }

  private func recipe(_ base: Recipe, _ format: KeyValueFormat, ranks: Int? = nil) -> Recipe {
    var recipe = base
    if case .group = recipe.scheme.weights.granularity {
      recipe.scheme.weights.granularity = .group(32)
    }
    recipe.cache = KeyValueScheme(format, ranks: ranks)
    return recipe
  }

  /// Largest magnitudes of each head's keys and values in the first block, in Double, by the formulas
  /// of Llama: RMS norm, projection, rotation of channel i with channel i + d/2 by
  /// `position · 10000^(-2i/d)`.
  private func peaks(
    _ decoder: Decoder, _ embedding: [Float]
  ) throws -> (keys: [Double], values: [Double]) {
    let (hidden, heads, size) = (64, Self.keyHeads, Self.headSize)
    let block = decoder.blocks[0]
    func weight(_ name: String) throws -> [Float] {
      let weight = try #require(block.linears[LinearID(rawValue: "self_attn.\(name)")]).weight
      return weight.values(of: 0..<weight.rows)
    }
    let norm = try #require(block.norms["input_layernorm"]).weight
    let (k, v) = (try weight("k_proj"), try weight("v_proj"))
    var keys = [Double](repeating: 0, count: heads)
    var values = keys
    for window in windows {
      for (position, token) in window.enumerated() {
        let x = embedding[token * hidden..<(token + 1) * hidden].map(Double.init)
        let square = x.reduce(0) { $0 + $1 * $1 } / Double(hidden) + 1e-5
        let normed = x.indices.map {
          x[$0] / square.squareRoot() * Double(norm[$0])
        }
        func row(_ w: [Float], _ n: Int) -> Double {
          (0..<hidden).reduce(0) { $0 + Double(w[n * hidden + $1]) * normed[$1] }
        }
        for head in 0..<heads {
          for i in 0..<size / 2 {
            let angle = Double(position) * pow(10000, -2 * Double(i) / Double(size))
            let (a, b) = (row(k, head * size + i), row(k, head * size + i + size / 2))
            keys[head] = max(
              keys[head], abs(a * cos(angle) - b * sin(angle)),
              abs(b * cos(angle) + a * sin(angle)))
          }
          for i in 0..<size { values[head] = max(values[head], abs(row(v, head * size + i))) }
        }
      }
    }
    return (keys, values)
  }

  private func expect(
    _ scales: KeyValueScales, from peaks: (keys: [Double], values: [Double]), within: Double,
    _ what: String
  ) {
    let codes: [String: Double] = ["fp8": 448, "int8": 127, "int4": 7]
    let largest = codes[scales.format.rawValue] ?? 0
    let both: [([Float], [Double])] = [(scales.keys, peaks.keys), (scales.values, peaks.values)]
    for (found, peaks) in both {
      let expected = scales.format == .fp8 ? [peaks.max() ?? 0] : peaks
      #expect(found.count == expected.count, "\(what)")
      for (scale, peak) in zip(found, expected) {
        #expect(abs(Double(scale) * largest / peak - 1) <= within, "\(what): \(scale), \(peak)")
      }
    }
  }

  @Test(arguments: KeyValueFormat.allCases)
  func scalesAreThoseOfRotatedKeysAndOfValues(_ format: KeyValueFormat) throws {
    try inTemporaryFolder { folder in
      let source = folder.path + "/source"
      try model().write(to: URL(fileURLWithPath: source))
      let float = try LoadedModel(path: source)
      #expect(float.cacheScales == nil)
      let embedding = float.decoder.embedding.values(of: 0..<128)
      let truth = try peaks(float.decoder, embedding)
      // Rounding to nearest watches the source, in float.
      var output = folder.path + "/nearest"
      try run(source, to: output, recipe(.w8a8, format), .compressedTensors)
      var scales = try #require(try LoadedModel(path: output).cacheScales)
      #expect(scales.count == 2 && scales[0] != scales[1])
      expect(scales[0], from: truth, within: 1e-5, "nearest")
      // GPTQ watches the model that it makes.
      output = folder.path + "/gptq"
      try run(source, to: output, recipe(.w4a16GPTQ, format), .compressedTensors)
      var loaded = try LoadedModel(path: output)
      scales = try #require(loaded.cacheScales)
      expect(scales[0], from: try peaks(loaded.decoder, embedding), within: 1e-4, "gptq")
      // Value was divided where output was smoothed, and its scales with it.
      output = folder.path + "/smooth"
      try run(source, to: output, recipe(.w8a8Smooth, format), .compressedTensors)
      loaded = try LoadedModel(path: output)
      scales = try #require(loaded.cacheScales)
      let smoothed = try peaks(loaded.decoder, embedding)
      let moved = zip(smoothed.values, truth.values).map { abs($0 / $1 - 1) }
      #expect(moved.max() ?? 0 > 0.1, "\(moved)")
      // What int8 weights add.
      expect(scales[0], from: smoothed, within: 0.03, "smooth")
    }
  }

  @Test func autoFP8TensorsAndSchemeAreWritten() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder.path + "/source", folder.path + "/out")
      try model().write(to: URL(fileURLWithPath: source))
      var fp8 = recipe(.fp8, .fp8)
      fp8.scheme.weights.granularity = .tensor
      try run(source, to: output, fp8, .fp8)
      let loaded = try LoadedModel(path: output)
      #expect(loaded.checkpoint.config["quantization_config"]?["kv_cache_scheme"] == "static")
      let file = try SafetensorsFile(path: output + "/model.safetensors")
      for name in ["k_scale", "v_scale"] {
        let entry = try #require(file.entry("model.layers.1.self_attn." + name))
        #expect(entry.dtype == .f32 && entry.shape == [1])
      }
      try run(source, to: folder.path + "/other", fp8, .compressedTensors)
      #expect(try LoadedModel(path: folder.path + "/other").cacheScales == loaded.cacheScales)
      #expect(loaded.cacheScales?.count == 2)
    }
  }

  /// The largest of a head's channels is what calibration measured for the head, so that both formats
  /// give the same cache.
  @Test func ascendScalesAreRead() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder.path + "/source", folder.path + "/out")
      try model().write(to: URL(fileURLWithPath: source))
      let int8 = recipe(.w8a8, .int8)
      try run(source, to: output, int8, .ascend)
      try run(source, to: folder.path + "/other", int8, .compressedTensors)
      let scales = try LoadedModel(path: output).cacheScales
      #expect(scales?.count == 2)
      #expect(scales == (try LoadedModel(path: folder.path + "/other").cacheScales))
      // One of the offsets is not zero: another cache than Nibble keeps.
      let weights = URL(
        fileURLWithPath: try #require(
          try FileManager.default.contentsOfDirectory(atPath: output).first {
            $0.hasSuffix(".safetensors")
          }.map { output + "/" + $0 }))
      let file = try SafetensorsFile(path: weights.path)
      let name = "model.layers.1.self_attn.v_proj.kv_cache_offset"
      let entry = try #require(file.entry(name))
      let tensors = file.entries.map {
        SafetensorsLayout.Tensor(name: $0.name, dtype: $0.dtype, shape: $0.shape)
      }
      let layout = try SafetensorsLayout(tensors)
      let writer = try SafetensorsWriter(layout: layout, path: output + "/changed")
      for tensor in layout.entries {
        var bytes = try #require(file.bytes(of: tensor.name)).array
        if tensor.name == entry.name { bytes.replaceSubrange(0..<4, with: [0, 0, 0x80, 0x3F]) }
        try writer.append(Bytes(bytes), of: tensor.name)
      }
      try writer.finish()
      try FileManager.default.removeItem(at: weights)
      try FileManager.default.moveItem(atPath: output + "/changed", toPath: weights.path)
      let error = try #require(throws: ModelError.self) { try LoadedModel(path: output) }
      #expect("\(error)".contains(name), "\(error)")
    }
  }

  /// Members and types of vLLM 0.5's `QuantParamSchema`; lmdeploy 0.2.6's four floats.
  @Test(arguments: [1, 2, 4])
  func oldEnginesFindTheScalesOfEveryRank(_ ranks: Int) throws {
    try inTemporaryFolder { folder in
      let source = folder.path + "/source"
      try model().write(to: URL(fileURLWithPath: source))
      let float = try LoadedModel(path: source).decoder
      let truth = try peaks(float, float.embedding.values(of: 0..<128))
      func heads(_ rank: Int) -> [Int] {
        [1: [0, 1], 2: [rank], 4: [rank / 2]][ranks] ?? []
      }
      try run(
        source, to: folder.path + "/fp8", recipe(.w8a8, .fp8, ranks: ranks), .compressedTensors)
      let text = try Data(
        contentsOf: URL(fileURLWithPath: folder.path + "/fp8/kv_cache_scales.json"))
      let json = try JSON(parsing: Array(text))
      #expect(json["model_type"] == "llama" && json["kv_cache"]?["dtype"] == "float8_e4m3fn")
      let factors = try #require(json["kv_cache"]?["scaling_factor"]?.object)
      #expect(factors.keys == (0..<ranks).map { "\($0)" })
      for rank in 0..<ranks {
        let blocks = try #require(factors["\(rank)"]?.object)
        #expect(blocks.keys == ["0", "1"])
        let peak = heads(rank).map { max(truth.keys[$0], truth.values[$0]) }.max() ?? 0
        let factor = try #require(blocks["0"]?.double)
        #expect(abs(factor * 448 / peak - 1) < 1e-5)
      }
      try run(
        source, to: folder.path + "/int8", recipe(.w8a8, .int8, ranks: ranks), .compressedTensors)
      let names = try FileManager.default.contentsOfDirectory(atPath: folder.path + "/int8")
        .filter { $0.contains("past_kv_scale") }
      #expect(names.count == 2 * ranks)
      for rank in 0..<ranks {
        let path = folder.path + "/int8/layers.0.past_kv_scale.\(rank).weight"
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        let floats = FloatFormat.f32.decode(Bytes(Array(data))).map(Double.init)
        #expect(floats.count == 4)
        // The range that 255 steps around the middle span ends at the largest magnitude.
        for (at, peaks) in [(0, truth.keys), (2, truth.values)] {
          let half = 127.5 * floats[at]
          let peak = heads(rank).map { peaks[$0] }.max() ?? 0
          let ends = max(abs(floats[at + 1] + half), abs(floats[at + 1] - half))
          #expect(abs(ends / peak - 1) < 1e-5)
        }
      }
    }
  }

  @Test func aScaleThatWasNotMeasuredIsAnError() throws {
    try inTemporaryFolder { folder in
      let source = folder.path + "/source"
      for (name, what) in [("k_proj", "keys"), ("v_proj", "values")] {
        try model().write(to: URL(fileURLWithPath: source)) { tensor, values in
          guard tensor == "model.layers.1.self_attn.\(name).weight" else { return }
          for i in 16 * 64..<32 * 64 { values[i] = 0 }
        }
        #expect(throws: QuantizeError.unmeasuredCache(block: 1, what: what, head: 1)) {
          try run(source, to: folder.path + "/\(what)", recipe(.w8a8, .int8), .compressedTensors)
        }
        #expect(!FileManager.default.fileExists(atPath: folder.path + "/\(what)"))
        try FileManager.default.removeItem(atPath: source)
      }
    }
  }

  @Test(arguments: [EngineFormat.compressedTensors, .fp8])
  func aCheckpointWithoutAScaleIsRefused(_ format: EngineFormat) throws {
    try inTemporaryFolder { folder in
      let source = folder.path + "/source"
      try model().write(to: URL(fileURLWithPath: source))
      var fp8 = recipe(.fp8, .fp8)
      fp8.scheme.weights.granularity = .tensor
      fp8.cache = nil
      try run(source, to: folder.path + "/out", fp8, format)
      let path = folder.appendingPathComponent("out/config.json")
      var config = try JSON(parsing: Array(Data(contentsOf: path)))
      var block = try #require(config["quantization_config"])
      block.set(
        "kv_cache_scheme", format == .fp8 ? "static" : CompressedTensors.scheme(.fp8))
      config.set("quantization_config", block)
      try Data(config.text().utf8).write(to: path)
      let error = #expect(throws: ModelError.self) { try LoadedModel(path: folder.path + "/out") }
      #expect(error.map { "\($0)" }?.contains("model.layers.0.self_attn.k_scale") ?? false)
      if format == .compressedTensors {
        block.set("kv_cache_scheme", ["num_bits": 3, "type": "int", "strategy": "attn_head"])
        config.set("quantization_config", block)
        try Data(config.text().utf8).write(to: path)
        let error = #expect(throws: ModelError.self) { try LoadedModel(path: folder.path + "/out") }
        #expect(error.map { "\($0)" }?.contains("kv_cache_scheme") ?? false)
      }
    }
  }

  @Test func cachesThatNoFileHoldsAreRefused() throws {
    try inTemporaryFolder { folder in
      try model().write(to: folder)
      let checkpoint = try Checkpoint(path: folder.path)
      func refusals(_ recipe: Recipe, _ format: EngineFormat) throws -> [String] {
        try Plan(
          checkpoint, recipe: recipe, exporter: format.exporter,
          windows: WindowSizes(calibration: [9])
        ).refusals.map { "\($0)" }
      }
      var asymmetric = try Recipe.preset("w4a16", group: 32, symmetric: false)
      var fp8 = Recipe.fp8
      fp8.scheme.weights.granularity = .tensor
      for format in KeyValueFormat.allCases {
        asymmetric.cache = KeyValueScheme(format)
        #expect(try refusals(asymmetric, .awq).count == 1)
        #expect(try refusals(recipe(.w8a8, format), .compressedTensors).isEmpty)
        #expect(try refusals(recipe(fp8, format), .fp8).count == (format == .fp8 ? 0 : 1))
      }
      asymmetric.cache = KeyValueScheme(.int8, ranks: 1)
      #expect(try refusals(asymmetric, .awq).isEmpty)
      let int4 = try refusals(recipe(.w8a8, .int4, ranks: 1), .compressedTensors)
      #expect(int4.count == 1 && int4[0].contains("int4"))
      let three = try refusals(recipe(.w8a8, .fp8, ranks: 3), .compressedTensors)
      #expect(three.count == 1 && three[0].contains("2 key heads"))
    }
  }
}
