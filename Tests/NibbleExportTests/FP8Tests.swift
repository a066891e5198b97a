import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleExport
@testable import NibbleQuantize

@Suite struct FP8Tests {
  static let path = "model.layers.0.self_attn.q_proj"

  private let exporter = FP8()

  private func recipe() -> Recipe {
    var recipe = Recipe.fp8
    recipe.scheme.weights.granularity = .tensor
    return recipe
  }

  /// Codes and scale that compressed-tensors found, 256 x 256: the codes are the same bytes here, the
  /// scale is a float under AutoFP8's name.
  private func fixtureMatrix() throws -> QuantizedMatrix {
    let file = try SafetensorsFile(path: fixturePath("fp8_tensor.safetensors"))
    let scale = FloatFormat.bf16.decode(try #require(file.bytes(of: "weight_scale")))
    return QuantizedMatrix(
      scheme: recipe().scheme.weights, rows: 256, columns: 256,
      codes: try #require(file.bytes(of: "weight")), scales: scale)
  }

  /// spec/formats.md 4.2.
  @Test func theTensorsAreAutoFP8s() throws {
    let matrix = try fixtureMatrix()
    let layer = layer(recipe().scheme, 256, 256, at: Self.path)
    let encoded = exporter.encode(matrix, of: layer)
    var shapes: [String: String] = [:]
    for tensor in exporter.tensors(of: layer) {
      shapes[tensor.name] = "\(tensor.dtype.rawValue) \(tensor.shape)"
    }
    #expect(
      shapes == [
        "\(Self.path).weight": "F8_E4M3 [256, 256]", "\(Self.path).weight_scale": "F32 [1]",
      ])
    #expect(encoded["\(Self.path).weight"]?.array == matrix.codes.array)
    let bits = matrix.scales[0].bitPattern
    #expect(
      encoded["\(Self.path).weight_scale"]?.array
        == (0..<4).map { UInt8(truncatingIfNeeded: bits >> (8 * $0)) })
  }

  private func written() throws -> SmallCheckpoint {
    var written = try checkpoint(
      fixtureMatrix(), of: layer(recipe().scheme, 256, 256, at: Self.path), by: exporter)
    written.config = exporter.config([:], try plan([Self.path: [256, 256]], recipe(), exporter))
    return written
  }

  @Test func whatIsWrittenIsRead() throws {
    let matrix = try fixtureMatrix()
    guard
      case .quantized(let read, let activations) = try written().weight(
        Self.path, 256, 256, by: FP8Reader.init)
    else {
      Issue.record("read as float")
      return
    }
    #expect(activations == .dynamicPerToken(.e4m3))
    #expect(read.scheme == matrix.scheme && read.scales == matrix.scales)
    #expect(read.codes.array == matrix.codes.array)
  }

  /// AutoFP8 writes scalars, and both it and others may round them to the model's format.
  @Test func scalesMayBeScalarsAndHalves() throws {
    var checkpoint = try written()
    for (format, shape) in [(DType.f32, []), (.bf16, []), (.f16, [1])] as [(DType, [Int])] {
      let bytes = try #require(format.floatFormat).encode([0.25].span)
      checkpoint.set("\(Self.path).weight_scale", format, shape, Bytes(bytes))
      let weight = try checkpoint.weight(Self.path, 256, 256, by: FP8Reader.init)
      guard case .quantized(let read, _) = weight else { continue }
      #expect(read.scales == [0.25])
    }
  }

  @Test func theConfigSaysWhatEnginesAskFor() throws {
    let plan = try plan(
      [Self.path: [8, 64], "model.layers.0.router": [8, 64]], recipe(), exporter)
    #expect(plan.refusals.isEmpty)
    let config = exporter.config(["torch_dtype": "bfloat16"], plan)
    #expect(config["torch_dtype"] == "bfloat16")
    #expect(
      config["quantization_config"] == [
        "quant_method": "fp8", "activation_scheme": "dynamic",
        "ignored_layers": ["lm_head", "model.layers.0.router"],
      ])
  }

  @Test func otherSchemesAreRefused() throws {
    let shapes = [Self.path: [8, 64]]
    var weightsOnly = recipe()
    weightsOnly.scheme.activations = nil
    for recipe in [.fp8, .w8a8, .w8a16, weightsOnly] {
      let refusals = try plan(shapes, recipe, exporter).refusals
      #expect(refusals.count == 1 && "\(refusals)".contains("--per tensor"))
    }
    var head = recipe()
    head.quantizesHead = true
    let refusals = try plan([Self.path: [8, 64], "lm_head": [16, 64]], head, exporter).refusals
    #expect("\(refusals)".contains("--quantize-head"))
  }

  private func expectRefusal(
    naming part: String, change: (inout SmallCheckpoint) throws -> Void,
    at location: SourceLocation = #_sourceLocation
  ) throws {
    var checkpoint = try written()
    try change(&checkpoint)
    let error = try #require(throws: ModelError.self, sourceLocation: location) {
      try checkpoint.weight(Self.path, 256, 256, by: FP8Reader.init)
    }
    #expect("\(error)".contains(part), "\(error)", sourceLocation: location)
  }

  @Test(
    arguments: [
      ("activation_scheme", "none"), ("activation_scheme", .null), ("activation_scheme", 1),
      ("weight_block_size", [128]), ("weight_block_size", "128"),
    ] as [(String, JSON)])
  func settingsThatNibbleDoesNotRunAreRefused(_ field: String, _ value: JSON) throws {
    try expectRefusal(naming: "quantization_config.\(field)") { checkpoint in
      var settings = checkpoint.config["quantization_config"]!
      settings.set(field, value)
      checkpoint.config = ["quantization_config": settings]
    }
  }

  @Test func damagedLayersAreNamed() throws {
    let scale = "\(Self.path).weight_scale"
    try expectRefusal(naming: scale) { $0.remove(scale) }
    try expectRefusal(naming: "\(Self.path).weight: shape") {
      $0.set(
        "\(Self.path).weight", .f8E4M3, [128, 512], Bytes([UInt8](repeating: 0, count: 65_536)))
    }
    try expectRefusal(naming: "\(scale): shape") {
      $0.set(scale, .f32, [256, 1], Bytes([UInt8](repeating: 1, count: 1024)))
    }
    for bad in [Float(0), -1, .nan, .infinity] {
      try expectRefusal(naming: "\(scale): scale 0") {
        $0.set(scale, .f32, [1], Bytes(FloatFormat.f32.encode([bad].span)))
      }
    }
  }

  @Test func editedConfigsNeverTrap() throws {
    let values = [
      "null", "-1", "0", "[128,128]", "[0,0]", "[9223372036854775807,1]", "1e300", "[]", "{}",
      "\"dynamic\"", "\"static\"", "true",
    ]
    let read = try written().readingEditedConfigs(
      300, values: values, Self.path, 256, 256
    ) { checkpoint throws(ModelError) in try FP8Reader(checkpoint) }
    #expect(read > 20 && read < 280, "\(read)")
  }

  @Test func aFloatLayerStaysFloat() throws {
    var checkpoint = try written()
    let values = uniform(8, seed: 1)
    checkpoint.set("lm_head.weight", .f32, [2, 4], Bytes(FloatFormat.f32.encode(values.span)))
    let head = try checkpoint.weight("lm_head", 2, 4, by: FP8Reader.init)
    #expect(head.values(of: 0..<2) == values)
  }
}
