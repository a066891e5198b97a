import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleEngines
@testable import NibbleQuantize

@Suite struct FP8Tests {
  static let path = "model.layers.0.self_attn.q_proj"

  private let exporter = FP8()

  static let tensor = WeightScheme(format: .e4m3, granularity: .tensor)
  static let block = WeightScheme(format: .e4m3, granularity: .block(rows: 128, columns: 128))

  enum Kind: CaseIterable {
    case dynamic
    case fixed
    case block

    var scheme: LinearScheme {
      switch self {
      case .dynamic: LinearScheme(weights: tensor, activations: .dynamicPerToken(.e4m3))
      case .fixed: LinearScheme(weights: tensor, activations: .staticPerTensor(.e4m3))
      case .block: LinearScheme(weights: FP8Tests.block, activations: .dynamicPerGroup(.e4m3, 128))
      }
    }

    /// The fixture, and its shape.
    var file: String { self == .block ? "block" : "tensor" }
    var outputs: Int { self == .block ? 256 : 32 }
    var inputs: Int { self == .block ? 384 : 48 }
    var scale: String { self == .block ? "weight_scale_inv" : "weight_scale" }
    /// Rows that `__dequantized` holds.
    var rows: [Int] { self == .block ? [0, 127, 128, 255] : Array(0..<32) }

    func fixture() throws -> SafetensorsFile {
      try SafetensorsFile(path: fixturePath(file + ".safetensors", of: "fp8"))
    }

    func recipe() -> Recipe {
      var recipe = Recipe.fp8
      recipe.scheme = scheme
      return recipe
    }
  }

  private func bytes(_ name: String, _ kind: Kind) throws -> Bytes {
    try #require(try kind.fixture().bytes(of: name))
  }

  /// Codes and scales that the reference found.
  private func matrix(_ kind: Kind) throws -> QuantizedMatrix {
    QuantizedMatrix(
      scheme: kind.scheme.weights, rows: kind.outputs, columns: kind.inputs,
      codes: try bytes("weight", kind),
      scales: FloatFormat.f32.decode(try bytes(kind.scale, kind)))
  }

  private func inputs(_ kind: Kind) throws -> InputRounding {
    let scale = try kind == .fixed ? FloatFormat.f32.decode(bytes("input_scale", kind))[0] : nil
    return InputRounding(
      kind.scheme.activations!, range: scale.map { InputRange(scale: $0) })
  }

  private func written(_ kind: Kind) throws -> SmallCheckpoint {
    let layer = layer(kind.scheme, kind.outputs, kind.inputs, at: Self.path)
    var written = try checkpoint(
      matrix(kind), inputs: inputs(kind), of: layer, by: exporter)
    written.config = exporter.config(
      [:], try plan([Self.path: [kind.outputs, kind.inputs]], kind.recipe(), exporter))
    return written
  }

  @Test(arguments: Kind.allCases)
  func writesTheBytesOfTheReference(_ kind: Kind) throws {
    let written = try written(kind)
    var names = ["weight", kind.scale]
    if kind == .fixed { names.append("input_scale") }
    #expect(Set(written.tensors.map(\.name)) == Set(names.map { "\(Self.path).\($0)" }))
    for name in names {
      let ours = try #require(written.tensors.first { $0.name == "\(Self.path).\(name)" })
      let theirs = try #require(try kind.fixture().entry(name))
      #expect(ours.dtype == theirs.dtype, "\(name)")
      // AutoFP8 writes scalars; engines take one value in either shape.
      #expect(ours.shape == (theirs.shape.isEmpty ? [1] : theirs.shape), "\(name)")
      #expect(written.data[ours.name]?.array == (try bytes(name, kind).array), "\(name)")
    }
  }

  /// The reference's checkpoint, scales of a cache included.
  private func reference(_ kind: Kind) throws -> SmallCheckpoint {
    var checkpoint = SmallCheckpoint()
    for entry in try kind.fixture().entries where !entry.name.hasPrefix("__") {
      checkpoint.set(
        "\(Self.path).\(entry.name)", entry.dtype, entry.shape, try bytes(entry.name, kind))
    }
    var settings: JSON = [
      "quant_method": "fp8", "activation_scheme": kind == .fixed ? "static" : "dynamic",
      "ignored_layers": ["lm_head"],
    ]
    if kind == .block { settings.set("weight_block_size", [128, 128]) }
    checkpoint.config = ["quantization_config": settings]
    return checkpoint
  }

  @Test(arguments: Kind.allCases)
  func readsWhatTheReferenceWrote(_ kind: Kind) throws {
    let weight = try reference(kind).weight(
      Self.path, kind.outputs, kind.inputs, by: FP8Reader.init)
    let values = kind.rows.flatMap { weight.values(of: $0..<$0 + 1) }
    let theirs = FloatFormat.f32.decode(try bytes("__dequantized", kind))
    #expect(values.count == theirs.count)
    #expect(zip(values, theirs).enumerated().first { $1.0 != $1.1 }?.offset == nil)
    let (_, inputs) = try #require(weight.codes)
    #expect(inputs == (try self.inputs(kind)))
  }

  @Test(arguments: Kind.allCases)
  func whatIsWrittenIsRead(_ kind: Kind) throws {
    let matrix = try matrix(kind)
    guard
      case .quantized(let read, let inputs) = try written(kind).weight(
        Self.path, kind.outputs, kind.inputs, by: FP8Reader.init)
    else {
      Issue.record("read as float")
      return
    }
    #expect(inputs == (try self.inputs(kind)))
    #expect(read.scheme == matrix.scheme && read.scales == matrix.scales)
    #expect(read.codes.array == matrix.codes.array)
  }

  /// Blocks at the right and lower edge are smaller.
  @Test func partialBlocksAreWrittenAndRead() throws {
    let (outputs, inputs) = (130, 200)
    let layer = layer(Kind.block.scheme, outputs, inputs, at: Self.path)
    let matrix = try QuantizedMatrix(
      rounding: FloatMatrix(
        format: .f32, rows: outputs, columns: inputs,
        bytes: Bytes(FloatFormat.f32.encode(uniform(outputs * inputs, seed: 3).span))),
      to: layer.scheme.weights, scaleFormat: exporter.scaleFormat(of: layer), on: oneThread)
    var written = try checkpoint(matrix, of: layer, by: exporter)
    #expect(written.tensors.contains { $0.shape == [2, 2] })
    written.config = try reference(.block).config
    let read = try written.weight(Self.path, outputs, inputs, by: FP8Reader.init)
    #expect(read.values(of: 0..<outputs) == matrix.decoded())
  }

  @Test func scalesMayBeHalves() throws {
    var checkpoint = try written(.dynamic)
    for (format, shape) in [(DType.f32, []), (.bf16, []), (.f16, [1])] as [(DType, [Int])] {
      let bytes = try #require(format.floatFormat).encode([0.25].span)
      checkpoint.set("\(Self.path).weight_scale", format, shape, Bytes(bytes))
      guard
        case .quantized(let read, _) = try checkpoint.weight(
          Self.path, 32, 48, by: FP8Reader.init)
      else {
        Issue.record("read as float")
        continue
      }
      #expect(read.scales == [0.25])
    }
  }

  @Test(
    arguments: [
      (.dynamic, "dynamic", .null), (.fixed, "static", .null), (.block, "dynamic", [128, 128]),
    ] as [(Kind, String, JSON)])
  func theConfigSaysWhatEnginesAskFor(_ kind: Kind, _ activations: String, _ size: JSON) throws {
    let plan = try plan(
      [Self.path: [128, 128], "model.layers.0.router": [8, 128]], kind.recipe(), exporter)
    #expect(plan.refusals.isEmpty)
    let config = exporter.config(["torch_dtype": "bfloat16"], plan)
    #expect(config["torch_dtype"] == "bfloat16")
    let settings = config["quantization_config"]
    #expect(settings?["quant_method"] == "fp8")
    #expect(settings?["activation_scheme"] == .string(activations))
    #expect(settings?["ignored_layers"] == ["lm_head", "model.layers.0.router"])
    #expect(settings?["weight_block_size"] ?? .null == size)
  }

  @Test func otherSchemesAreRefused() throws {
    let shapes = [Self.path: [128, 128]]
    var others = [Recipe.fp8, .w8a8, .w8a16]
    for kind in Kind.allCases {
      for activations in [nil, .dynamicPerTensor(.e4m3), .dynamicPerGroup(.e4m3, 64)]
        as [ActivationScheme?]
      {
        var recipe = kind.recipe()
        recipe.scheme.activations = activations
        others.append(recipe)
      }
    }
    for recipe in others {
      let refusals = try plan(shapes, recipe, exporter).refusals
      #expect(refusals.count == 1 && "\(refusals)".contains("--per tensor"), "\(refusals)")
    }
    var head = Kind.dynamic.recipe()
    head.quantizesHead = true
    let refusals = try plan([Self.path: [8, 64], "lm_head": [16, 64]], head, exporter).refusals
    #expect("\(refusals)".contains("--quantize-head"))
  }

  /// vLLM stacks query, key and value, and gate and up; only the last may end inside a block.
  @Test func blocksAcrossFusedLayersAreRefused() throws {
    func refusals(_ change: (inout TinyModel) -> Void) throws -> [String] {
      try inTemporaryFolder { folder in
        var model = TinyModel()
        (model.hidden, model.heads, model.keyHeads, model.headSize) = (128, 4, 4, 32)
        (model.intermediate, model.blocks) = (128, 1)
        change(&model)
        try model.write(to: folder)
        return try Plan(
          Checkpoint(path: folder.path), recipe: Kind.block.recipe(), exporter: exporter,
          windows: WindowSizes(heldOut: [8])
        ).refusals.map(\.description)
      }
    }
    #expect(try refusals { _ in } == [])
    for (part, change) in [
      ("k_proj", { $0.keyHeads = 2 }), ("gate_proj", { $0.intermediate = 192 }),
    ] as [(String, (inout TinyModel) -> Void)] {
      let found = try refusals(change)
      #expect(found.count == 1 && found[0].contains(part), "\(found)")
    }
  }

  private func expectRefusal(
    naming part: String, in kind: Kind = .dynamic,
    change: (inout SmallCheckpoint) throws -> Void, at location: SourceLocation = #_sourceLocation
  ) throws {
    var checkpoint = try written(kind)
    try change(&checkpoint)
    let error = try #require(throws: ModelError.self, sourceLocation: location) {
      try checkpoint.weight(Self.path, kind.outputs, kind.inputs, by: FP8Reader.init)
    }
    #expect("\(error)".contains(part), "\(error)", sourceLocation: location)
  }

  @Test(
    arguments: [
      ("activation_scheme", "none"), ("activation_scheme", .null), ("activation_scheme", 1),
      ("weight_block_size", [128]), ("weight_block_size", "128"), ("weight_block_size", [0, 128]),
      ("weight_block_size", [128, -1]), ("weight_block_size", [128, 128, 128]),
      ("weight_block_size", [1.5, 128]),
    ] as [(String, JSON)])
  func settingsThatNibbleDoesNotRunAreRefused(_ field: String, _ value: JSON) throws {
    try expectRefusal(naming: "quantization_config.\(field)") { checkpoint in
      var settings = checkpoint.config["quantization_config"]!
      settings.set(field, value)
      checkpoint.config = ["quantization_config": settings]
    }
  }

  @Test func staticActivationsDoNotGoWithBlocks() throws {
    try expectRefusal(naming: "activation_scheme", in: .block) { checkpoint in
      checkpoint.config = [
        "quantization_config": ["activation_scheme": "static", "weight_block_size": [128, 128]]
      ]
    }
  }

  @Test func damagedLayersAreNamed() throws {
    for (kind, name) in [
      (Kind.dynamic, "weight_scale"), (.fixed, "input_scale"), (.block, "weight_scale_inv"),
    ] {
      let scale = "\(Self.path).\(name)"
      let count = kind == .block ? 6 : 1
      try expectRefusal(naming: scale, in: kind) { $0.remove(scale) }
      try expectRefusal(naming: "\(scale): shape", in: kind) {
        $0.set(scale, .f32, [count, 2], Bytes([UInt8](repeating: 1, count: 8 * count)))
      }
      for bad in [Float(0), -1, .nan, .infinity] {
        try expectRefusal(naming: "\(scale): scale 0", in: kind) {
          $0.set(
            scale, .f32, kind == .block ? [2, 3] : [1],
            Bytes(FloatFormat.f32.encode([Float](repeating: bad, count: count).span)))
        }
      }
    }
    try expectRefusal(naming: "\(Self.path).weight: shape") {
      $0.set("\(Self.path).weight", .f8E4M3, [48, 32], Bytes([UInt8](repeating: 0, count: 1536)))
    }
  }

  @Test(arguments: Kind.allCases)
  func editedConfigsNeverTrap(_ kind: Kind) throws {
    let values = [
      "null", "-1", "0", "[128,128]", "[0,0]", "[9223372036854775807,1]", "[1,1]", "[7,1048576]",
      "1e300", "[]", "{}", "\"dynamic\"", "\"static\"", "true",
    ]
    let read = try reference(kind).readingEditedConfigs(
      200, values: values, Self.path, kind.outputs, kind.inputs
    ) { checkpoint throws(ModelError) in try FP8Reader(checkpoint) }
    #expect(read > 20 && read < 190, "\(read)")
  }

  @Test func aFloatLayerStaysFloat() throws {
    var checkpoint = try written(.dynamic)
    let values = uniform(8, seed: 1)
    checkpoint.set("lm_head.weight", .f32, [2, 4], Bytes(FloatFormat.f32.encode(values.span)))
    let head = try checkpoint.weight("lm_head", 2, 4, by: FP8Reader.init)
    #expect(head.values(of: 0..<2) == values)
  }
}
