import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleEngines

@Suite struct CompressedTensorsReaderTests {
  static let path = "model.layers.0.mlp.down_proj"
  static let schemes = [
    "int8_channel", "int8_tensor", "fp8_block", "fp8_channel", "fp8_tensor", "w4a16_asym_g32",
    "w4a16_sym_g128", "w8a16_sym_channel",
  ]

  private func weight(
    _ checkpoint: SmallCheckpoint, _ outputs: Int = 256, _ inputs: Int = 256,
    path: String = path
  ) throws -> Weight {
    try inTemporaryFolder { folder in
      try checkpoint.write(to: folder)
      let reader = try CompressedTensorsReader(Checkpoint(path: folder.path))
      return try reader.weight(path, outputs: outputs, inputs: inputs)
    }
  }

  /// The fixture's own codes times its own scales, by the formulas of spec/formats.md 3.3.
  private func expected(_ scheme: String) throws -> [Float] {
    let file = try SafetensorsFile(path: fixturePath(scheme + ".safetensors"))
    func bytes(_ name: String) -> [UInt8] { file.bytes(of: name)?.array ?? [] }
    let scales = FloatFormat.bf16.decode(try #require(file.bytes(of: "weight_scale")))
    let perRow = scales.count / 256
    func scale(_ row: Int, _ column: Int) -> Float {
      scales.count == 4
        ? scales[row / 128 * 2 + column / 128]
        : scales.count == 1 ? scales[0] : scales[row * perRow + column * perRow / 256]
    }
    let packed = bytes("weight_packed")
    let (plain, zeros) = (bytes("weight"), bytes("weight_zero_point"))
    return (0..<256 * 256).map { index in
      let (row, column) = (index / 256, index % 256)
      let code: Float
      if packed.count == 256 * 256 {
        code = Float(Int(packed[index]) - 128)
      } else if !packed.isEmpty {
        var zero = 0
        if !zeros.isEmpty {
          // Eight outputs a word, one word a group.
          let word = (row / 8 * perRow + column * perRow / 256) * 4
          zero = Int(zeros[word + row % 8 / 2] >> (row % 2 * 4) & 15) - 8
        }
        code = Float(Int(packed[index / 2] >> (index % 2 * 4) & 15) - 8 - zero)
      } else if scheme.hasPrefix("fp8") {
        code = Self.e4m3(plain[index])
      } else {
        code = Float(Int8(bitPattern: plain[index]))
      }
      return code * scale(row, column)
    }
  }

  private static func e4m3(_ code: UInt8) -> Float {
    let (exponent, mantissa) = (Int(code >> 3 & 15), Float(code & 7))
    let magnitude =
      exponent == 0
      ? mantissa * 0x1p-9
      : Float(sign: .plus, exponent: exponent - 7, significand: 1 + mantissa / 8)
    return code & 0x80 == 0 ? magnitude : -magnitude
  }

  @Test(arguments: schemes)
  func decodesWhatCompressedTensorsWrote(_ scheme: String) throws {
    let weight = try weight(fixtureCheckpoint(scheme, at: Self.path))
    guard case .quantized(_, inputs: nil) = weight else {
      Issue.record("\(weight) is not codes with float activations")
      return
    }
    let values = weight.values(of: 0..<256)
    // Not ==: a failure would look for the shortest edit between 65 536 values.
    #expect(zip(values, try expected(scheme)).enumerated().first { $1.0 != $1.1 }?.offset == nil)
    let file = try SafetensorsFile(path: fixturePath(scheme + ".safetensors"))
    if let reference = file.bytes(of: "__dequantized") {
      // The reference multiplies in bfloat16: one rounding of the exact product.
      let rounded = FloatFormat.bf16.encode(values.span)
      #expect(zip(rounded, reference.array).enumerated().first { $1.0 != $1.1 }?.offset == nil)
    }
  }

  @Test func someFixturesHoldTheReferencesOwnValues() throws {
    let holding = try Self.schemes.filter {
      try SafetensorsFile(path: fixturePath($0 + ".safetensors")).entry("__dequantized") != nil
    }
    #expect(holding == ["int8_channel", "fp8_block", "w4a16_asym_g32"])
  }

  /// int8 codes of 8 x 32 with one scale a row: the base of the faults below.
  private func small() -> SmallCheckpoint {
    var checkpoint = SmallCheckpoint()
    checkpoint.set("a.b.weight", .i8, [8, 32], Bytes((0..<256).map { UInt8($0) }))
    checkpoint.set("a.b.weight_scale", .f32, [8, 1], floats([Float](repeating: 0.5, count: 8)))
    checkpoint.config = quantizationConfig(weights: Self.int8)
    return checkpoint
  }

  private static let int8: JSON = [
    "num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "dynamic": false,
    "group_size": .null,
  ]

  private static let perToken: JSON = [
    "num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true,
  ]

  private func floats(_ values: [Float]) -> Bytes { Bytes(FloatFormat.f32.encode(values.span)) }

  private func expectRefusal(_ checkpoint: SmallCheckpoint, naming name: String) throws {
    let error = try #require(throws: ModelError.self) {
      try weight(checkpoint, 8, 32, path: "a.b")
    }
    #expect("\(error)".contains(name), "\(error)")
  }

  @Test func theBaseOfTheFaultsReads() throws {
    #expect(try weight(small(), 8, 32, path: "a.b").values(of: 0..<1).first == 0)
  }

  @Test func activationsPerTokenAreKept() throws {
    for (type, format) in [("int", ActivationScheme.Format.int8), ("float", .e4m3)] {
      var checkpoint = small()
      var activations = Self.perToken
      activations.set("type", .string(type))
      checkpoint.config = quantizationConfig(weights: Self.int8, activations: activations)
      guard case .quantized(_, let read) = try weight(checkpoint, 8, 32, path: "a.b") else {
        Issue.record("float")
        continue
      }
      #expect(read == InputRounding(.dynamicPerToken(format)))
    }
  }

  @Test(arguments: [Float(0), -1, .nan, .infinity, -0.0])
  func scalesThatAreNotAboveZeroAreRefused(_ bad: Float) throws {
    var checkpoint = small()
    checkpoint.set("a.b.weight_scale", .f32, [8, 1], floats([1, 1, 1, 1, 1, bad, 1, 1]))
    try expectRefusal(checkpoint, naming: "a.b.weight_scale: scale 5")
  }

  @Test func missingTensorsAreNamed() throws {
    var checkpoint = small()
    checkpoint.remove("a.b.weight")
    try expectRefusal(checkpoint, naming: "a.b.weight")
    checkpoint = small()
    // Without its scale a layer looks float, and is not.
    checkpoint.remove("a.b.weight_scale")
    try expectRefusal(checkpoint, naming: "a.b.weight")
    for name in ["weight_packed", "weight_scale", "weight_zero_point"] {
      var packed = try fixtureCheckpoint("w4a16_asym_g32", at: Self.path)
      packed.remove("\(Self.path).\(name)")
      let error = try #require(throws: ModelError.self) { try weight(packed) }
      #expect("\(error)".contains(name == "weight_packed" ? Self.path : name), "\(error)")
    }
  }

  @Test func wrongShapesAndTypesAreNamed() throws {
    var checkpoint = small()
    checkpoint.set("a.b.weight", .i8, [32, 8], Bytes([UInt8](repeating: 0, count: 256)))
    try expectRefusal(checkpoint, naming: "a.b.weight: shape [32, 8]")
    checkpoint = small()
    checkpoint.set("a.b.weight", .f8E4M3, [8, 32], Bytes([UInt8](repeating: 0, count: 256)))
    try expectRefusal(checkpoint, naming: "a.b.weight: holds F8_E4M3")
    for shape in [[8], [1, 8], [8, 2], [], [0, 1]] {
      checkpoint = small()
      checkpoint.set(
        "a.b.weight_scale", .f32, shape,
        floats([Float](repeating: 1, count: shape.reduce(1, *))))
      try expectRefusal(checkpoint, naming: "a.b.weight_scale: shape")
    }
    checkpoint = small()
    checkpoint.set("a.b.weight_scale", .i32, [8, 1], floats([Float](repeating: 1, count: 8)))
    try expectRefusal(checkpoint, naming: "a.b.weight_scale: holds I32")
    var packed = try fixtureCheckpoint("w4a16_asym_g32", at: Self.path)
    packed.set(
      Self.path + ".weight_zero_point", .i32, [256, 8],
      Bytes([UInt8](repeating: 0, count: 256 * 8 * 4)))
    let error = try #require(throws: ModelError.self) { try weight(packed) }
    #expect("\(error)".contains("weight_zero_point"))
  }

  @Test(
    arguments: [
      ("strategy", "tensor_group"), ("strategy", "block"), ("strategy", "nonsense"),
      ("num_bits", 3), ("num_bits", 16), ("type", "float4"), ("strategy", "group"),
    ] as [(String, JSON)])
  func weightsThatNibbleDoesNotRunAreRefused(_ field: String, _ value: JSON) throws {
    var checkpoint = small()
    var weights = Self.int8
    weights.set(field, value)
    checkpoint.config = quantizationConfig(weights: weights)
    try expectRefusal(checkpoint, naming: "quantization_config.config_groups.group_0")
  }

  @Test(
    arguments: [
      ("dynamic", false), ("dynamic", "local"), ("strategy", "channel"), ("symmetric", false),
      ("num_bits", 4), ("strategy", "group"), ("strategy", "block"),
    ] as [(String, JSON)])
  func activationsThatNibbleDoesNotRunAreRefused(_ field: String, _ value: JSON) throws {
    var checkpoint = small()
    var activations = Self.perToken
    activations.set(field, value)
    checkpoint.config = quantizationConfig(weights: Self.int8, activations: activations)
    try expectRefusal(checkpoint, naming: "quantization_config.config_groups.group_0")
  }

  @Test(arguments: [.null, [:], [], "group", ["group_0": []], ["group_0": .null]] as [JSON])
  func aConfigWithoutGroupsIsRefused(_ groups: JSON) throws {
    var checkpoint = small()
    checkpoint.config = [
      "quantization_config": ["quant_method": "compressed-tensors", "config_groups": groups]
    ]
    try expectRefusal(checkpoint, naming: "config_groups")
  }

  @Test func aLayerThatNoGroupTargetsIsRefused() throws {
    var checkpoint = small()
    let group: JSON = ["targets": ["re:.*q_proj$", "x.y"], "weights": Self.int8]
    checkpoint.config = ["quantization_config": ["config_groups": ["g": group]]]
    try expectRefusal(checkpoint, naming: "a.b")
  }

  @Test func theMostSpecificTargetWins() throws {
    var tensor = Self.int8
    tensor.set("strategy", "tensor")
    // The scales are one a row, so that only the right group reads.
    for target in ["a.b", "re:.*\\.b$"] {
      var checkpoint = small()
      checkpoint.config = [
        "quantization_config": [
          "config_groups": [
            "all": ["targets": ["Linear"], "weights": tensor],
            "one": ["targets": [.string(target)], "weights": Self.int8],
          ]
        ]
      ]
      #expect(try weight(checkpoint, 8, 32, path: "a.b").rows == 8)
    }
  }

  /// Backtracking takes 27 s for a path of 12 characters, and four times as long for each more.
  @Test func anExpressionWithNestedRepeatsEnds() throws {
    let path = "model.layers.10.self_attn.q_proj_of_a_long_path"
    for (field, isQuantized) in [("targets", false), ("ignore", true)] {
      var checkpoint = SmallCheckpoint()
      checkpoint.set(path + ".weight", .i8, [8, 32], Bytes([UInt8](repeating: 1, count: 256)))
      checkpoint.set(path + ".weight_scale", .f32, [8, 1], floats([Float](repeating: 1, count: 8)))
      let nested: JSON = ["re:(([a-z0-9_.]+)+)+X"]
      checkpoint.config = [
        "quantization_config": [
          "config_groups": [
            "g": ["targets": field == "targets" ? nested : ["Linear"], "weights": Self.int8]
          ], "ignore": field == "ignore" ? nested : [],
        ]
      ]
      let read = try? weight(checkpoint, 8, 32, path: path)
      #expect((read != nil) == isQuantized)
    }
  }

  @Test(
    arguments: ["re:(", "re:(?P<name>a)", "re:a++", "re:(?!ab).*", "re:\\q"], ["targets", "ignore"])
  func anExpressionThatIsNotKnownIsRefusedByName(_ pattern: String, _ field: String) throws {
    var checkpoint = small()
    checkpoint.config = [
      "quantization_config": [
        "config_groups": [
          "g": [
            "targets": field == "targets" ? ["Linear", .string(pattern)] : ["Linear"],
            "weights": Self.int8,
          ]
        ], "ignore": field == "ignore" ? [.string(pattern)] : [],
      ]
    ]
    try expectRefusal(checkpoint, naming: field)
    try expectRefusal(checkpoint, naming: pattern)
  }

  @Test(arguments: [7, ["Linear", 7], "Linear", ["a": "b"]] as [JSON])
  func modulesThatAreNoNamesAreRefused(_ modules: JSON) throws {
    for field in ["targets", "ignore"] {
      var checkpoint = small()
      checkpoint.config = [
        "quantization_config": [
          "config_groups": [
            "g": [
              "targets": field == "targets" ? modules : ["Linear"], "weights": Self.int8,
            ]
          ], "ignore": field == "ignore" ? modules : [],
        ]
      ]
      try expectRefusal(checkpoint, naming: field)
    }
  }

  /// The instructions of all expressions count together, so that many do not take longer than one may.
  @Test func expressionsThatAreTooLongTogetherAreRefused() throws {
    var checkpoint = small()
    let pattern = "re:" + String(repeating: "a", count: 5000)
    checkpoint.config = [
      "quantization_config": [
        "config_groups": ["g": ["targets": ["Linear"], "weights": Self.int8]],
        "ignore": .array(Array(repeating: .string(pattern), count: 5)),
      ]
    ]
    try expectRefusal(checkpoint, naming: "ignore")
  }

  @Test func aFloatLayerStaysFloat() throws {
    var checkpoint = small()
    checkpoint.set("lm_head.weight", .f32, [2, 4], floats(uniform(8, seed: 1)))
    let head = try weight(checkpoint, 2, 4, path: "lm_head")
    #expect(head.values(of: 0..<2) == uniform(8, seed: 1))
  }

  /// Groups that do not divide the inputs, or do not fill words, are refused and never trap.
  @Test(arguments: [3, 5, 7, 64, 1 << 20])
  func groupsThatDoNotDivideAreRefused(_ size: Int) throws {
    var checkpoint = small()
    var weights = Self.int8
    weights.set("strategy", "group")
    weights.set("group_size", JSON(size))
    checkpoint.config = quantizationConfig(weights: weights)
    try expectRefusal(checkpoint, naming: "a.b: 32 inputs")
  }

  /// Whatever the config says, reading ends in a weight or an error that can be shown.
  @Test(arguments: ["w4a16_asym_g32", "w4a16_sym_g128", "w8a16_sym_channel", "fp8_channel"])
  func editedConfigsNeverTrap(_ scheme: String) throws {
    var base = try fixtureCheckpoint(scheme, at: Self.path)
    base.config.set("hidden_size", 256)
    let text = base.config.text()
    var random = SplitMix(state: 9)
    let values = [
      "null", "0", "1", "-1", "4", "8", "3", "256", "1e300", "1.5", "9223372036854775807", "[]",
      "{}", "\"\"", "true", "false", "\"tensor\"", "\"channel\"", "\"group\"", "\"token\"",
      "\"float\"", "\"int\"", "[\"re:(\"]", "[\"re:.*\"]", "[\"\(Self.path)\"]",
      "{\"num_bits\":8,\"dynamic\":true,\"strategy\":\"token\"}",
    ]
    try inTemporaryFolder { folder in
      try base.write(to: folder)
      var read = 0
      for _ in 0..<700 {
        var edited = Array(text.utf8)
        for _ in 0..<Int(random.next() % 2) + 1 {
          if random.next() % 4 == 0 {
            edited[Int(random.next() % UInt64(edited.count))] = UInt8(random.next() % 128)
          } else {
            // Replaces what stands between a colon and the next comma or brace.
            let colons = edited.indices.filter { edited[$0] == UInt8(ascii: ":") }
            let start = colons[Int(random.next() % UInt64(colons.count))] + 1
            let end = edited[start...].firstIndex { $0 == 0x2C || $0 == 0x7D } ?? edited.count
            let value = values[Int(random.next() % UInt64(values.count))]
            edited.replaceSubrange(start..<end, with: Array(value.utf8))
          }
        }
        try Data(edited).write(to: folder.appendingPathComponent("config.json"))
        do throws(ModelError) {
          let reader = try CompressedTensorsReader(Checkpoint(path: folder.path))
          let weight = try reader.weight(Self.path, outputs: 256, inputs: 256)
          #expect(weight.values(of: 255..<256).count == 256)
          read += 1
        } catch {
          #expect(!"\(error)".isEmpty)
        }
      }
      // Some edits leave what matters, so that the weights behind them are met too.
      #expect(read > 20 && read < 650, "\(read)")
    }
  }
}
