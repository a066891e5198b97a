import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleEngines
@testable import NibbleQuantize

/// Modules [33, 80], or [33, 96] for MXFP4 and NVFP4, that compressed-tensors 0.20 wrote (Tests/Golden/compressed.py), read and written
/// again.
@Suite struct ReferenceModulesTests {
  struct Module: Sendable, CustomTestStringConvertible {
    var name: String
    var scheme: LinearScheme
    var range: InputRange?
    var inputs: Int { scheme.weights.format.group == nil ? 80 : 96 }
    var testDescription: String { name }
  }

  private static func module(
    _ name: String, _ format: WeightScheme.Format, _ granularity: WeightScheme.Granularity,
    _ activations: ActivationScheme?, _ range: InputRange? = nil
  ) -> Module {
    Module(
      name: name,
      scheme: LinearScheme(
        weights: WeightScheme(format: format, granularity: granularity), activations: activations),
      range: range)
  }

  /// The ranges are calculate_qparams of -1.25...2.5: max / 127.5, and the width / 255 with
  /// -128 + 1.25 / scale.
  static let modules = [
    module("fp8_block_partial", .e4m3, .block(rows: 16, columns: 32), .dynamicPerGroup(.e4m3, 128)),
    module("w4a8_g16", .int(bits: 4, symmetric: true), .group(16), .dynamicPerToken(.int8)),
    module("w8a8_g16", .int(bits: 8, symmetric: true), .group(16), .dynamicPerToken(.int8)),
    module(
      "w8a8_static", .int(bits: 8, symmetric: true), .channel, .staticPerTensor(.int8),
      InputRange(scale: 2.5 / 127.5)),
    module(
      "w8a8_static_asym", .int(bits: 8, symmetric: true), .channel, .staticAsymmetric,
      InputRange(scale: 3.75 / 255, zero: -43)),
    module(
      "fp8_static", .e4m3, .tensor, .staticPerTensor(.e4m3), InputRange(scale: 2.5 / 448)),
    module("fp8_dynamic_tensor", .e4m3, .tensor, .dynamicPerTensor(.e4m3)),
    module("mxfp4", .mxfp4, .group(32), nil), module("nvfp4", .nvfp4, .group(16), nil),
  ]

  private let path = "model.layers.0.mlp.up_proj"

  private func checkpoint(_ module: Module) throws -> SmallCheckpoint {
    let file = try SafetensorsFile(path: fixturePath(module.name + ".safetensors"))
    let arguments = try #require(try Checkpoint.json(fixturePath("arguments.json"))[module.name])
    var checkpoint = SmallCheckpoint()
    for entry in file.entries where !entry.name.hasPrefix("__") {
      checkpoint.set(
        "\(path).\(entry.name)", entry.dtype, entry.shape,
        try #require(file.bytes(of: entry.name)))
    }
    checkpoint.config = ["quantization_config": ["config_groups": ["group_0": arguments]]]
    return checkpoint
  }

  private func read(_ checkpoint: SmallCheckpoint, inputs: Int = 80) throws -> Weight {
    try inTemporaryFolder { folder in
      try checkpoint.write(to: folder)
      let reader = try CompressedTensorsReader(Checkpoint(path: folder.path))
      return try reader.weight(path, outputs: 33, inputs: inputs)
    }
  }

  private func layer(
    _ scheme: LinearScheme, _ path: String? = nil, inputs: Int = 80
  ) -> Plan.Layer {
    Plan.Layer(
      path: path ?? self.path, role: nil, outputs: 33, inputs: inputs, scheme: scheme,
      sourceBytes: 33 * 80 * 2, modelFormat: .bf16)
  }

  @Test(arguments: modules)
  func valuesAndRangesAreTheReferences(_ module: Module) throws {
    let weight = try read(checkpoint(module), inputs: module.inputs)
    guard case .quantized(let matrix, let inputs) = weight else {
      Issue.record("\(weight) is float")
      return
    }
    #expect(matrix.scheme == module.scheme.weights)
    #expect(inputs?.scheme == module.scheme.activations)
    #expect(inputs?.range?.zero == module.range?.zero)
    let (found, expected) = (inputs?.range?.scale ?? 0, module.range?.scale ?? 0)
    #expect(abs(found - expected) <= expected.ulp)
    let file = try SafetensorsFile(path: fixturePath(module.name + ".safetensors"))
    let reference = try #require(file.bytes(of: "__dequantized"))
    // The reference multiplies in bfloat16: one rounding of the exact product.
    let values = FloatFormat.bf16.encode(weight.values(of: 0..<33).span)
    #expect(zip(values, reference.array).enumerated().first { $1.0 != $1.1 }?.offset == nil)
  }

  /// Every tensor comes back byte by byte, but for scales, which are written in float.
  @Test(arguments: modules)
  func whatTheReferenceWroteIsWrittenAgain(_ module: Module) throws {
    let source = try checkpoint(module)
    let (matrix, inputs) = try #require(try read(source, inputs: module.inputs).codes)
    let layer = layer(module.scheme, inputs: module.inputs)
    let exporter = CompressedTensors()
    let encoded = exporter.encode(matrix, inputs: inputs, of: layer)
    let planned = exporter.tensors(of: layer)
    #expect(Set(planned.map(\.name)) == Set(source.tensors.map(\.name)))
    for tensor in source.tensors {
      let plan = try #require(planned.first { $0.name == tensor.name })
      #expect(plan.shape == tensor.shape)
      let (found, expected) = (
        try #require(encoded[tensor.name]), try #require(source.data[tensor.name])
      )
      if let format = tensor.dtype.floatFormat {
        #expect(FloatFormat.f32.decode(found) == format.decode(expected))
      } else {
        #expect(plan.dtype == tensor.dtype)
        #expect(zip(found.array, expected.array).enumerated().first { $1.0 != $1.1 }?.offset == nil)
        #expect(found.count == expected.count)
      }
    }
  }

  @Test(arguments: modules)
  func configGroupsAreTheReferences(_ module: Module) throws {
    let written = CompressedTensors.quantizationConfig([layer(module.scheme)], ignoring: [])
    let reference = try Checkpoint.json(fixturePath("arguments.json"))[module.name]
    #expect(written["config_groups"]?["group_0"] == reference)
    #expect(written["format"] == reference?["format"])
  }

  /// The scheme of most layers is the class's; the others are named, and each reads its own.
  @Test func layersOfSeveralSchemesHaveAGroupEach() throws {
    let schemes = ["w4a8_g16", "w4a8_g16", "w8a8_static", "fp8_static"].map { name in
      Self.modules.first { $0.name == name }!.scheme
    }
    let layers = schemes.enumerated().map { layer($0.element, "model.layers.0.l\($0.offset)") }
    let config = CompressedTensors.quantizationConfig(layers, ignoring: ["lm_head"])
    #expect(config["format"] == "mixed-precision")
    let groups = config["config_groups"]
    #expect(groups?["group_0"]?["targets"] == ["Linear"])
    #expect(groups?["group_1"]?["targets"] == ["model.layers.0.l2"])
    #expect(groups?["group_2"]?["targets"] == ["model.layers.0.l3"])
    #expect(groups?["group_2"]?["format"] == "float-quantized")
    var checkpoint = SmallCheckpoint()
    checkpoint.config = ["quantization_config": config]
    let names = ["w4a8_g16", "w4a8_g16", "w8a8_static", "fp8_static"]
    for (layer, name) in zip(layers, names) {
      let file = try SafetensorsFile(path: fixturePath(name + ".safetensors"))
      for entry in file.entries where !entry.name.hasPrefix("__") {
        checkpoint.set(
          "\(layer.path).\(entry.name)", entry.dtype, entry.shape,
          try #require(file.bytes(of: entry.name)))
      }
    }
    try inTemporaryFolder { folder in
      try checkpoint.write(to: folder)
      let reader = try CompressedTensorsReader(Checkpoint(path: folder.path))
      for layer in layers {
        let weight = try reader.weight(layer.path, outputs: 33, inputs: 80)
        guard case .quantized(let matrix, let inputs) = weight else {
          Issue.record("\(layer.path) is float")
          continue
        }
        #expect(matrix.scheme == layer.scheme.weights)
        #expect(inputs?.scheme == layer.scheme.activations)
      }
    }
  }

  private func expectRefusal(_ checkpoint: SmallCheckpoint, naming name: String) throws {
    let error = try #require(throws: ModelError.self) { try read(checkpoint) }
    #expect("\(error)".contains(name), "\(error)")
  }

  @Test func staticRangesThatAreMissingOrWrongAreNamed() throws {
    let asymmetric = try checkpoint(Self.modules.first { $0.name == "w8a8_static_asym" }!)
    for name in ["input_scale", "input_zero_point"] {
      var broken = asymmetric
      broken.remove("\(path).\(name)")
      try expectRefusal(broken, naming: name)
      broken = asymmetric
      broken.set("\(path).\(name)", .i32, [1], Bytes([1, 0, 0, 0]))
      try expectRefusal(broken, naming: "\(name): holds I32")
      broken.set("\(path).\(name)", .f32, [2], Bytes([UInt8](repeating: 64, count: 8)))
      try expectRefusal(broken, naming: "\(name): shape")
    }
    for scale in [Float(0), -1, .nan, .infinity] {
      var broken = asymmetric
      broken.set(
        "\(path).input_scale", .f32, [1], Bytes(FloatFormat.f32.encode([scale].span)))
      try expectRefusal(broken, naming: "input_scale: scale 0")
    }
    var scalar = asymmetric
    scalar.set("\(path).input_scale", .f32, [], Bytes(FloatFormat.f32.encode([0.5].span)))
    scalar.set("\(path).input_zero_point", .i8, [], Bytes([0x80]))
    let (_, inputs) = try #require(try read(scalar).codes)
    #expect(inputs?.range == InputRange(scale: 0.5, zero: -128))
  }

  /// Bytes that stand for no scale, and shapes and types of another format.
  @Test(arguments: ["mxfp4", "nvfp4"])
  func brokenScalesOfFP4AreRefused(_ name: String) throws {
    let module = try #require(Self.modules.first { $0.name == name })
    let whole = try checkpoint(module)
    let scales = try #require(whole.tensors.first { $0.name == "\(path).weight_scale" })
    let bytes = try #require(whole.data[scales.name]).array
    func expect(_ broken: SmallCheckpoint, naming name: String) throws {
      let error = try #require(throws: ModelError.self) { try read(broken, inputs: 96) }
      #expect("\(error)".contains(name), "\(error)")
    }
    // Not a number; in E4M3 also what lies below zero.
    for byte in name == "mxfp4" ? [255] : [0x7F, 0xFF, 0xB8] as [UInt8] {
      var broken = whole
      broken.set(scales.name, scales.dtype, scales.shape, Bytes([byte] + bytes.dropFirst()))
      try expect(broken, naming: "weight_scale: scale 0")
    }
    for name in [scales.name, "\(path).weight_packed"] {
      let tensor = try #require(whole.tensors.first { $0.name == name })
      var broken = whole
      broken.set(name, .i8, tensor.shape, try #require(whole.data[name]))
      try expect(broken, naming: "\(name): holds I8")
      broken.set(name, tensor.dtype, [tensor.shape[0], 1], Bytes([UInt8](repeating: 1, count: 33)))
      try expect(broken, naming: "\(name): shape")
      broken.remove(name)
      if name != "\(path).weight_packed" { try expect(broken, naming: name) }
    }
    guard name == "nvfp4" else { return }
    for divisor in [Float(0), -1, .nan, .infinity, .leastNonzeroMagnitude] {
      var broken = whole
      broken.set(
        "\(path).weight_global_scale", .f32, [1], Bytes(FloatFormat.f32.encode([divisor].span)))
      try expect(broken, naming: "scale")
    }
    var zeros = whole
    zeros.set(scales.name, scales.dtype, scales.shape, Bytes([0] + bytes.dropFirst()))
    #expect(try read(zeros, inputs: 96).values(of: 0..<1)[..<16].allSatisfy { $0 == 0 })
  }

  @Test(
    arguments: [
      ("mxfp4", "group_size", 16), ("mxfp4", "strategy", "tensor_group"),
      ("mxfp4", "strategy", "channel"), ("mxfp4", "symmetric", false), ("nvfp4", "group_size", 32),
      ("nvfp4", "strategy", "group"), ("nvfp4", "group_size", .null),
    ] as [(String, String, JSON)])
  func otherFormatsOfFourBitsAreRefused(_ name: String, _ key: String, _ value: JSON) throws {
    var broken = try checkpoint(try #require(Self.modules.first { $0.name == name }))
    var arguments = try #require(try Checkpoint.json(fixturePath("arguments.json"))[name])
    var weights = try #require(arguments["weights"])
    weights.set(key, value)
    arguments.set("weights", weights)
    broken.config = ["quantization_config": ["config_groups": ["group_0": arguments]]]
    let error = try #require(throws: ModelError.self) { try read(broken, inputs: 96) }
    #expect("\(error)".contains("neither MXFP4 nor NVFP4"), "\(error)")
  }

  @Test func codesOfMoreThanFourBitsAreRefused() throws {
    for bad in [8, 127, 0x80, 0xF7] as [UInt8] {
      var broken = try checkpoint(Self.modules[1])
      var codes = try #require(broken.data["\(path).weight"]).array
      codes[81] = bad
      broken.set("\(path).weight", .i8, [33, 80], Bytes(codes))
      try expectRefusal(broken, naming: "\(path).weight")
    }
  }

  @Test(
    arguments: [.null, [], [16], [16, 0], [-1, 16], [16, 32, 1], "16x32", [16, 1.5]] as [JSON])
  func blocksWithoutAStructureAreRefused(_ structure: JSON) throws {
    var broken = try checkpoint(Self.modules[0])
    var arguments = try #require(
      try Checkpoint.json(fixturePath("arguments.json"))["fp8_block_partial"])
    var weights = try #require(arguments["weights"])
    weights.set("block_structure", structure)
    arguments.set("weights", weights)
    broken.config = ["quantization_config": ["config_groups": ["group_0": arguments]]]
    try expectRefusal(broken, naming: "blocks without a")
  }
}
