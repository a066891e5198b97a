import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleEngines
@testable import NibbleQuantize

@Suite struct GPTQTests {
  static let path = "model.layers.0.mlp.down_proj"
  static let (outputs, inputs) = (64, 96)

  /// A layer that AutoGPTQ packed: Tests/Golden/layouts.py.
  struct Fixture: Sendable, CustomTestStringConvertible {
    var name: String
    var bits = 4
    var group = 32
    var symmetric = true
    var testDescription: String { name }
  }

  static let fixtures = [
    Fixture(name: "sym4"), Fixture(name: "sym8", bits: 8),
    Fixture(name: "asym4", symmetric: false), Fixture(name: "sym4_channel", group: -1),
    Fixture(name: "order4"),
  ]

  private let exporter = NibbleEngines.GPTQ()

  private func file(_ fixture: Fixture) throws -> SafetensorsFile {
    try SafetensorsFile(path: fixturePath("\(fixture.name).safetensors", of: "gptq"))
  }

  private func bytes(_ name: String, _ fixture: Fixture) throws -> [UInt8] {
    try #require(try file(fixture).bytes(of: name)).array
  }

  private func values(_ fixture: Fixture) throws -> [Float] {
    FloatFormat.f32.decode(Bytes(try bytes("values", fixture)))
  }

  private func checkpoint(_ fixture: Fixture, label: String = "gptq") throws -> SmallCheckpoint {
    var checkpoint = SmallCheckpoint()
    for name in ["qweight", "qzeros", "scales", "g_idx"] {
      let entry = try #require(try file(fixture).entry(name))
      checkpoint.set(
        "\(Self.path).\(name)", entry.dtype, entry.shape, Bytes(try bytes(name, fixture)))
    }
    checkpoint.config = [
      "quantization_config": [
        "quant_method": "gptq", "bits": JSON(fixture.bits), "group_size": JSON(fixture.group),
        "desc_act": false, "sym": .bool(fixture.symmetric), "checkpoint_format": .string(label),
      ]
    ]
    return checkpoint
  }

  @Test(arguments: fixtures)
  func readsWhatAutoGPTQWrote(_ fixture: Fixture) throws {
    let weight = try checkpoint(fixture).weight(
      Self.path, Self.outputs, Self.inputs, by: GPTQReader.init)
    #expect(weight.values(of: 0..<Self.outputs) == (try values(fixture)))
  }

  /// The packed integers, and `g_idx`: all but scales follows from codes and zero points.
  @Test(arguments: fixtures.filter { $0.name.hasPrefix("sym") })
  func writesTheBytesThatAutoGPTQWrote(_ fixture: Fixture) throws {
    let weight = try checkpoint(fixture).weight(
      Self.path, Self.outputs, Self.inputs, by: GPTQReader.init)
    guard case .quantized(let matrix, inputs: nil) = weight else {
      Issue.record("read as something else")
      return
    }
    let layer = layer(
      LinearScheme(weights: matrix.scheme), Self.outputs, Self.inputs, at: Self.path)
    let encoded = exporter.encode(matrix, inputs: nil, of: layer)
    for tensor in exporter.tensors(of: layer) {
      let name = String(tensor.name.split(separator: ".").last!)
      let theirs = try #require(try file(fixture).entry(name))
      #expect(tensor.dtype == theirs.dtype && tensor.shape == theirs.shape, "\(name)")
      #expect(encoded[tensor.name]?.array == (try bytes(name, fixture)), "\(name)")
    }
    #expect(encoded.count == 4)
  }

  /// spec/engines.md 1.1: K = N = 8, q[k, n] = (3k + n) mod 16.
  @Test func theCheckVectorHolds() {
    var codes = [UInt8](repeating: 0, count: 32)
    for n in 0..<8 {
      for k in 0..<8 { codes[(n * 8 + k) / 2] |= UInt8((3 * k + n) % 16) << (UInt8(k) % 2 * 4) }
    }
    let words = WordMatrix(codes, columns: 1).transposed
    let text = stride(from: 0, to: words.count, by: 4).map { at in
      (0..<4).reversed().map { byte in
        (words[at + byte] < 16 ? "0" : "") + String(words[at + byte], radix: 16)
      }.joined()
    }
    #expect(
      text == [
        "52fc9630", "630da741", "741eb852", "852fc963", "9630da74", "a741eb85", "b852fc96",
        "c9630da7",
      ])
  }

  @Test(
    arguments: [
      (4, true, 32, 32, 32), (8, true, 64, 96, 32), (4, false, 32, 128, 64), (8, false, 32, 64, 64),
    ])
  func whatIsWrittenIsRead(
    _ bits: Int, _ symmetric: Bool, _ outputs: Int, _ inputs: Int, _ group: Int
  ) throws {
    let recipe = try Recipe.preset(
      bits == 4 ? "w4a16" : "w8a16", group: group, symmetric: symmetric)
    let layer = layer(recipe.scheme, outputs, inputs, at: Self.path)
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(
        format: .f32, rows: outputs, columns: inputs,
        bytes: Bytes(FloatFormat.f32.encode(uniform(outputs * inputs, seed: 3).span))),
      to: layer.scheme.weights, scaleFormat: exporter.scaleFormat(of: layer), on: oneThread)
    let plan = try plan([Self.path: [outputs, inputs]], recipe, exporter)
    #expect(plan.refusals.isEmpty)
    var written = try NibbleEnginesTests.checkpoint(matrix, of: layer, by: exporter)
    written.config = exporter.config([:], plan)
    #expect(
      written.config["quantization_config"]?["checkpoint_format"]
        == (symmetric ? "gptq" : "gptq_v2"))
    let read = try written.weight(Self.path, outputs, inputs, by: GPTQReader.init)
    #expect(read.values(of: 0..<outputs) == matrix.decoded())
    let twin = try #require(exporter.companions(of: plan).first)
    #expect(twin.name == "quantize_config.json")
    #expect(try JSON(parsing: Array(twin.text.utf8)) == written.config["quantization_config"])
  }

  /// vllm#38966: the label of a symmetric checkpoint says one version and its zero points the other.
  @Test func aSymmetricCheckpointIsReadByItsZeroPoints() throws {
    let fixture = Self.fixtures[0]
    var mislabelled = try checkpoint(fixture, label: "gptq_v2")
    let read = try mislabelled.weight(Self.path, Self.outputs, Self.inputs, by: GPTQReader.init)
    #expect(read.values(of: 0..<Self.outputs) == (try values(fixture)))
    let second = [UInt8](repeating: 0x88, count: 3 * Self.outputs / 2)
    mislabelled = try checkpoint(fixture)
    mislabelled.set("\(Self.path).qzeros", .i32, [3, Self.outputs / 8], Bytes(second))
    let again = try mislabelled.weight(Self.path, Self.outputs, Self.inputs, by: GPTQReader.init)
    #expect(again.values(of: 0..<Self.outputs) == (try values(fixture)))
  }

  @Test func otherSchemesAreRefused() throws {
    let shapes = [Self.path: [32, 64]]
    for recipe in [Recipe.w8a8, .fp8, .mxfp4] {
      let refusals = try plan(shapes, recipe, exporter).refusals
      #expect(refusals.map { "\($0)" }.contains { $0.contains("gptq") && $0.contains("Use") })
    }
    let recipe = try Recipe.preset("w4a16", group: 32)
    #expect(try plan(shapes, recipe, exporter).refusals.isEmpty)
    let odd = try plan([Self.path: [24, 64]], recipe, exporter)
    #expect(odd.refusals.count == 1 && "\(odd.refusals[0])".contains("[24, 64]"))
  }

  @Test func layersThatStayFloatAreNamed() throws {
    let recipe = try Recipe.preset("w4a16", group: 32)
    let plan = try plan(
      [Self.path: [32, 64], "model.layers.0.router": [32, 64]], recipe, exporter)
    let settings = exporter.config([:], plan)["quantization_config"]
    #expect(settings?["dynamic"] == ["-:^model\\.layers\\.0\\.router$": [:]])
    #expect(plan.notes.contains { $0.contains("dynamic") })
  }

  private func expectRefusal(
    naming part: String, change: (inout SmallCheckpoint) throws -> Void,
    at location: SourceLocation = #_sourceLocation
  ) throws {
    var damaged = try checkpoint(Self.fixtures[2])
    try change(&damaged)
    let error = try #require(throws: ModelError.self, sourceLocation: location) {
      try damaged.weight(Self.path, Self.outputs, Self.inputs, by: GPTQReader.init)
    }
    #expect("\(error)".contains(part), "\(error)", sourceLocation: location)
  }

  @Test(
    arguments: [
      ("checkpoint_format", "marlin"), ("bits", 5), ("bits", .null), ("group_size", 0),
      ("group_size", .null), ("group_size", "32"), ("group_size", -2), ("sym", true),
      ("dynamic", ["+:x": ["bits": 8]]),
    ] as [(String, JSON)])
  func settingsThatNibbleDoesNotRunAreRefused(_ field: String, _ value: JSON) throws {
    try expectRefusal(naming: field == "sym" ? "qzeros" : "quantization_config.\(field)") {
      var settings = $0.config["quantization_config"]!
      settings.set(field, value)
      $0.config = ["quantization_config": settings]
    }
  }

  @Test func damagedLayersAreNamed() throws {
    for name in ["qzeros", "scales"] {
      try expectRefusal(naming: "\(Self.path).\(name)") { $0.remove("\(Self.path).\(name)") }
    }
    try expectRefusal(naming: "\(Self.path).weight") { $0.remove("\(Self.path).qweight") }
    try expectRefusal(naming: "qweight: shape [96, 64]") {
      $0.set(
        "\(Self.path).qweight", .i32, [96, 64], Bytes([UInt8](repeating: 0, count: 4 * 96 * 64)))
    }
    for bad in [Int32(3), -1, .max] {
      try expectRefusal(naming: "g_idx: input 0 is in group \(bad)") {
        var indices = (0..<Int32(Self.inputs)).map { $0 / 32 }
        indices[0] = bad
        $0.set(
          "\(Self.path).g_idx", .i32, [Self.inputs],
          Bytes(
            indices.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
            }))
      }
    }
    try expectRefusal(naming: "g_idx: input 32 is in group 0") {
      $0.set(
        "\(Self.path).g_idx", .i32, [Self.inputs],
        Bytes([UInt8](repeating: 0, count: 4 * Self.inputs)))
    }
  }

  @Test func editedConfigsNeverTrap() throws {
    let values = [
      "null", "-1", "0", "2", "32", "96", "3", "8", "9223372036854775807", "1e300", "1.5", "[]",
      "{}",
      "\"gptq\"", "\"gptq_v2\"", "true", "false",
    ]
    let read = try checkpoint(Self.fixtures[2]).readingEditedConfigs(
      400, values: values, Self.path, Self.outputs, Self.inputs
    ) { checkpoint throws(ModelError) in try GPTQReader(checkpoint) }
    #expect(read > 20 && read < 380, "\(read)")
  }
}
