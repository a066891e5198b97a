import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleEngines
@testable import NibbleQuantize

@Suite struct AWQTests {
  static let path = "model.layers.0.mlp.down_proj"

  private func scheme(_ granularity: WeightScheme.Granularity = .group(32)) -> LinearScheme {
    LinearScheme(
      weights: WeightScheme(
        format: .int(bits: 4, symmetric: false), granularity: granularity))
  }

  private let exporter = NibbleEngines.AWQ()

  private func recipe(_ group: Int = 32) throws -> Recipe {
    try Recipe.preset("w4a16", group: group, symmetric: false)
  }

  private func fixture() throws -> SafetensorsFile {
    try SafetensorsFile(path: fixturePath("gemm_256x64_g128.safetensors", of: "awq"))
  }

  private func bytes(_ name: String) throws -> [UInt8] {
    try #require(try fixture().bytes(of: name)).array
  }

  /// AutoAWQ's own integers, zero points and scales, 256 inputs by 64 outputs, become its bytes.
  @Test func writesTheBytesThatAutoAWQWrote() throws {
    let (integers, zeros) = (try bytes("ref.int_weight_in_out"), try bytes("ref.int_zeros"))
    let scales = FloatFormat.f16.decode(Bytes(try bytes("scales")))
    var codes = [UInt8](repeating: 0, count: 64 * 128)
    for output in 0..<64 {
      for input in 0..<256 {
        codes[output * 128 + input / 2] |= integers[input * 64 + output] << (input % 2 * 4)
      }
    }
    let layer = layer(scheme(.group(128)), 64, 256, at: Self.path)
    let matrix = QuantizedMatrix(
      scheme: layer.scheme.weights, rows: 64, columns: 256, codes: Bytes(codes),
      scales: (0..<128).map { scales[$0 % 2 * 64 + $0 / 2] },
      zeroPoints: (0..<128).map { Int8(zeros[$0 % 2 * 64 + $0 / 2]) - 8 })
    let encoded = exporter.encode(matrix, inputs: nil, of: layer)
    for tensor in exporter.tensors(of: layer) {
      let name = String(tensor.name.split(separator: ".").last!)
      let theirs = try #require(try fixture().entry(name))
      #expect(tensor.dtype == theirs.dtype && tensor.shape == theirs.shape, "\(name)")
      #expect(encoded[tensor.name]?.array == (try bytes(name)), "\(name)")
    }
    #expect(encoded.count == 3)
  }

  /// spec/formats.md 2.1.
  @Test func theWorkedExampleHolds() throws {
    let example = try Checkpoint.json(fixturePath("example.json", of: "awq"))
    let integers = try #require(example["int_values_out0_7"]?.array).compactMap(\.int)
    let packed = InterleavedCodes.pack(
      zeroPoints: integers.map { Int8($0) - 8 }, outputs: 8, groups: 1)
    let hexadecimal = packed.array.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    #expect(hexadecimal == example["packed_hex_le_bytes"]?.string)
  }

  private func fixtureCheckpoint() throws -> SmallCheckpoint {
    let file = try fixture()
    var checkpoint = SmallCheckpoint()
    for name in ["qweight", "qzeros", "scales"] {
      let entry = try #require(file.entry(name))
      checkpoint.set("\(Self.path).\(name)", entry.dtype, entry.shape, Bytes(try bytes(name)))
    }
    checkpoint.config = [
      "quantization_config": [
        "quant_method": "awq", "version": "gemm", "bits": 4, "group_size": 128,
        "zero_point": true, "modules_to_not_convert": .null,
      ]
    ]
    return checkpoint
  }

  @Test func readsWhatAutoAWQWrote() throws {
    let weight = try fixtureCheckpoint().weight(Self.path, 64, 256, by: AWQReader.init)
    // Their values are float16 products, [inputs, outputs]; ours are exact.
    let values = FloatFormat.f16.decode(
      Bytes(FloatFormat.f16.encode(weight.values(of: 0..<64).span)))
    let theirs = FloatFormat.f16.decode(Bytes(try bytes("ref.dequant_in_out")))
    let inOrder = transposed(theirs, rows: 256, columns: 64)
    let differing = values.indices.first { values[$0] != inOrder[$0] }
    #expect(differing == nil)
  }

  @Test(arguments: [(8, 32, 32), (16, 96, 32), (40, 256, 64), (24, 40, 2), (8, 264, 264)])
  func whatIsWrittenIsRead(_ outputs: Int, _ inputs: Int, _ group: Int) throws {
    let layer = layer(scheme(.group(group)), outputs, inputs, at: Self.path)
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(
        format: .f32, rows: outputs, columns: inputs,
        bytes: Bytes(FloatFormat.f32.encode(uniform(outputs * inputs, seed: 3).span))),
      to: layer.scheme.weights, scaleFormat: exporter.scaleFormat(of: layer), on: oneThread)
    var written = try checkpoint(matrix, of: layer, by: exporter)
    let plan = try plan([Self.path: [outputs, inputs]], recipe(group), exporter)
    #expect(plan.refusals.isEmpty)
    written.config = exporter.config([:], plan)
    guard
      case .quantized(let read, inputs: nil) = try written.weight(
        Self.path, outputs, inputs, by: AWQReader.init)
    else {
      Issue.record("read as something else")
      return
    }
    #expect(read.scheme == matrix.scheme)
    #expect(read.codes.array == matrix.codes.array)
    #expect(read.scales == matrix.scales)
    #expect(read.zeroPoints == matrix.zeroPoints)
    // Groups of all inputs have a second name.
    guard inputs == group else { return }
    written.config = ["quantization_config": ["w_bit": 4, "q_group_size": -1, "zero_point": true]]
    let again = try written.weight(Self.path, outputs, inputs, by: AWQReader.init)
    #expect(again.values(of: 0..<outputs) == matrix.decoded())
  }

  @Test func theConfigSaysWhatEnginesAskFor() throws {
    let plan = try plan(
      [Self.path: [8, 64], "model.layers.0.router": [8, 64]], recipe(), exporter)
    let config = exporter.config(["torch_dtype": "bfloat16", "x": 1], plan)
    #expect(
      config["quantization_config"] == [
        "quant_method": "awq", "version": "gemm", "bits": 4, "group_size": 32, "zero_point": true,
        "modules_to_not_convert": ["model.layers.0.router"],
      ])
    #expect(config["torch_dtype"] == "float16" && config["dtype"] == nil && config["x"] == 1)
    let newer = exporter.config(["dtype": "float32"], plan)
    #expect(newer["dtype"] == "float16" && newer["torch_dtype"] == nil)
    #expect(exporter.config([:], plan)["torch_dtype"] == "float16")
    let without = try self.plan(["model.layers.0.up_proj": [8, 64]])
    let block = exporter.config([:], without)["quantization_config"]
    #expect(block?["modules_to_not_convert"] == .null)
  }

  private func plan(_ shapes: [String: [Int]]) throws -> Plan {
    try plan(shapes, recipe(), exporter)
  }

  private func plan(_ shapes: [String: [Int]], _ recipe: Recipe, _ exporter: NibbleEngines.AWQ)
    throws -> Plan
  {
    try NibbleEnginesTests.plan(shapes, recipe, exporter)
  }

  @Test func otherSchemesAreRefused() throws {
    let shapes = [Self.path: [8, 64]]
    var channels = try recipe()
    channels.scheme.weights.granularity = .channel
    for recipe in [.w8a8, .w8a16, .fp8, try Recipe.preset("w4a16", group: 32), channels] {
      let refusals = try plan(shapes, recipe, exporter).refusals
      #expect(refusals.map { "\($0)" }.contains { $0.contains("awq") && $0.contains("Use") })
    }
    #expect(try plan(shapes).refusals.isEmpty)
  }

  @Test func whatDoesNotPackIsRefused() throws {
    let odd = try plan([Self.path: [12, 64], "model.layers.1.mlp.down_proj": [4, 64]])
    #expect(odd.refusals.count == 1)
    #expect("\(odd.refusals[0])".contains("\(Self.path) and 1 more"))
    let groups = try plan([Self.path: [8, 48]])
    #expect("\(groups.refusals)".contains("32"), "\(groups.refusals)")
  }

  @Test func namesThatWouldKeepOtherLayersFloatAreRefused() throws {
    let clash = try plan([
      "model.layers.0.mlp.gate": [8, 64], "model.layers.0.mlp.gate_proj": [8, 64],
    ])
    #expect(clash.refusals.count == 1 && "\(clash.refusals)".contains("mlp.gate_proj"))
    var recipe = try recipe()
    recipe.quantizesHead = true
    let head = try plan([Self.path: [8, 64], "lm_head": [16, 64]], recipe, exporter)
    #expect("\(head.refusals)".contains("--quantize-head"))
  }

  private func expectRefusal(
    naming parts: String..., change: (inout SmallCheckpoint) throws -> Void,
    at location: SourceLocation = #_sourceLocation
  ) throws {
    var checkpoint = try fixtureCheckpoint()
    try change(&checkpoint)
    let error = try #require(throws: ModelError.self, sourceLocation: location) {
      try checkpoint.weight(Self.path, 64, 256, by: AWQReader.init)
    }
    for part in parts {
      #expect("\(error)".contains(part), "\(error)", sourceLocation: location)
    }
  }

  @Test(
    arguments: [
      ("version", "gemv"), ("version", "marlin"), ("bits", 3), ("bits", "4"), ("bits", .null),
      ("zero_point", false), ("zero_point", .null), ("group_size", 0), ("group_size", 1),
      ("group_size", -2), ("group_size", .null), ("group_size", 1.5),
    ] as [(String, JSON)])
  func settingsThatNibbleDoesNotRunAreRefused(_ field: String, _ value: JSON) throws {
    try expectRefusal(naming: "config.json", "quantization_config.\(field)") { checkpoint in
      var settings = checkpoint.config["quantization_config"]!
      settings.set(field, value)
      checkpoint.config = ["quantization_config": settings]
    }
  }

  @Test func damagedLayersAreNamed() throws {
    for name in ["qzeros", "scales"] {
      try expectRefusal(naming: "\(Self.path).\(name)") { $0.remove("\(Self.path).\(name)") }
    }
    // Without its codes a layer looks float, and is not.
    try expectRefusal(naming: "\(Self.path).weight") { $0.remove("\(Self.path).qweight") }
    let words = Bytes([UInt8](repeating: 0, count: 8192))
    try expectRefusal(naming: "qweight: shape [64, 32]") {
      $0.set("\(Self.path).qweight", .i32, [64, 32], words)
    }
    try expectRefusal(naming: "qweight: holds U32") {
      $0.set("\(Self.path).qweight", .u32, [256, 8], words)
    }
    for bad in [Float(0), -1, .nan, .infinity] {
      try expectRefusal(naming: "scales: scale 77") {
        var scales = [Float](repeating: 1, count: 128)
        scales[77] = bad
        $0.set("\(Self.path).scales", .f16, [2, 64], Bytes(FloatFormat.f16.encode(scales.span)))
      }
    }
    try expectRefusal(naming: "does not fit") {
      $0.config = [
        "quantization_config": ["bits": 4, "zero_point": true, "group_size": 96]
      ]
    }
  }

  @Test func editedConfigsNeverTrap() throws {
    let values = [
      "null", "-1", "0", "2", "32", "128", "256", "3", "9223372036854775807", "1e300", "1.5", "[]",
      "{}", "\"gemm\"", "\"\"", "true", "false",
    ]
    let read = try fixtureCheckpoint().readingEditedConfigs(
      400, values: values, Self.path, 64, 256
    ) { checkpoint throws(ModelError) in try AWQReader(checkpoint) }
    #expect(read > 20 && read < 380, "\(read)")
  }

  @Test func aFloatLayerStaysFloat() throws {
    var checkpoint = try fixtureCheckpoint()
    let values = uniform(8, seed: 1)
    checkpoint.set("lm_head.weight", .f32, [2, 4], Bytes(FloatFormat.f32.encode(values.span)))
    let head = try checkpoint.weight("lm_head", 2, 4, by: AWQReader.init)
    #expect(head.values(of: 0..<2) == values)
  }
}
