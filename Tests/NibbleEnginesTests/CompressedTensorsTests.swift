import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleEngines
@testable import NibbleQuantize

@Suite struct CompressedTensorsTests {
  static let schemes: [LinearScheme] = [
    int(8, .channel, activations: .dynamicPerToken(.int8)),
    int(8, .tensor, activations: .dynamicPerToken(.int8)),
    int(8, .channel), int(8, .tensor), int(8, .group(32)),
    int(8, .channel, symmetric: false), int(8, .group(16), symmetric: false),
    int(4, .group(32)), int(4, .channel), int(4, .tensor),
    int(4, .group(32), symmetric: false), int(4, .channel, symmetric: false),
    LinearScheme(
      weights: WeightScheme(format: .e4m3, granularity: .channel),
      activations: .dynamicPerToken(.e4m3)),
    LinearScheme(
      weights: WeightScheme(format: .e4m3, granularity: .tensor),
      activations: .dynamicPerToken(.e4m3)),
    LinearScheme(weights: WeightScheme(format: .e4m3, granularity: .channel)),
    int(8, .channel, activations: .staticPerTensor(.int8)),
    int(8, .tensor, activations: .staticAsymmetric),
    int(8, .channel, activations: .dynamicPerTensor(.int8)),
    int(8, .group(32), activations: .dynamicPerToken(.int8)),
    int(8, .group(32), symmetric: false, activations: .dynamicPerToken(.int8)),
    int(4, .group(32), activations: .dynamicPerToken(.int8)),
    int(4, .channel, activations: .staticPerTensor(.int8)),
    LinearScheme(
      weights: WeightScheme(format: .e4m3, granularity: .block(rows: 16, columns: 64)),
      activations: .dynamicPerGroup(.e4m3, 64)),
    LinearScheme(
      weights: WeightScheme(format: .e4m3, granularity: .tensor),
      activations: .staticPerTensor(.e4m3)),
    LinearScheme(weights: WeightScheme(format: .mxfp4, granularity: .group(32))),
    LinearScheme(weights: WeightScheme(format: .nvfp4, granularity: .group(16))),
  ]

  private func rounding(_ scheme: LinearScheme) -> InputRounding? {
    scheme.activations.map { activations in
      let range = InputRange(scale: 0.03, zero: activations == .staticAsymmetric ? -17 : 0)
      return InputRounding(activations, range: activations.isStatic ? range : nil)
    }
  }

  private static func int(
    _ bits: Int, _ granularity: WeightScheme.Granularity, symmetric: Bool = true,
    activations: ActivationScheme? = nil
  ) -> LinearScheme {
    LinearScheme(
      weights: WeightScheme(
        format: .int(bits: bits, symmetric: symmetric), granularity: granularity),
      activations: activations)
  }

  private let exporter = CompressedTensors()

  private func layer(
    _ scheme: LinearScheme, _ outputs: Int, _ inputs: Int, _ format: FloatFormat = .f16
  ) -> Plan.Layer {
    Plan.Layer(
      path: "model.layers.0.self_attn.q_proj", role: nil, outputs: outputs, inputs: inputs,
      scheme: scheme, sourceBytes: outputs * inputs * 2, modelFormat: format)
  }

  private func round(_ layer: Plan.Layer) throws -> QuantizedMatrix {
    let values = uniform(layer.outputs * layer.inputs, seed: 3)
    return try QuantizedMatrix(
      rounding: FloatMatrix(
        format: .f32, rows: layer.outputs, columns: layer.inputs,
        bytes: Bytes(FloatFormat.f32.encode(values.span))),
      to: layer.scheme.weights, scaleFormat: exporter.scaleFormat(of: layer), on: oneThread)
  }

  @Test(arguments: schemes, [1, 7, 8, 9, 33])
  func encodesTheTensorsItPlans(_ scheme: LinearScheme, _ outputs: Int) throws {
    for inputs in [32, 96] {
      let layer = layer(scheme, outputs, inputs)
      let planned = exporter.tensors(of: layer)
      let encoded = exporter.encode(try round(layer), inputs: rounding(scheme), of: layer)
      #expect(Set(planned.map(\.name)) == Set(encoded.keys))
      #expect(planned.count == encoded.count)
      for tensor in planned {
        #expect(
          encoded[tensor.name]?.count == tensor.shape.reduce(1, *) * tensor.dtype.bits / 8,
          "\(tensor)")
      }
    }
  }

  /// spec/formats.md 3.2.
  @Test func tensorsAreThoseOfTheFormat() throws {
    func tensors(_ scheme: LinearScheme, _ n: Int, _ k: Int) -> [String: String] {
      var shapes: [String: String] = [:]
      for tensor in exporter.tensors(of: layer(scheme, n, k, .bf16)) {
        let suffix = String(tensor.name.split(separator: ".").last!)
        shapes[suffix] = "\(tensor.dtype.rawValue) \(tensor.shape)"
      }
      return shapes
    }
    #expect(
      tensors(Self.schemes[0], 33, 96) == ["weight": "I8 [33, 96]", "weight_scale": "F32 [33, 1]"])
    #expect(
      tensors(Self.schemes[1], 33, 96) == ["weight": "I8 [33, 96]", "weight_scale": "F32 [1]"])
    #expect(
      tensors(Self.schemes[12], 33, 96)
        == ["weight": "F8_E4M3 [33, 96]", "weight_scale": "F32 [33, 1]"])
    #expect(
      tensors(Self.int(4, .group(32), symmetric: false), 33, 96) == [
        "weight_packed": "I32 [33, 12]", "weight_scale": "BF16 [33, 3]", "weight_shape": "I64 [2]",
        "weight_zero_point": "I32 [5, 3]",
      ])
    #expect(
      tensors(Self.int(8, .channel), 33, 96) == [
        "weight_packed": "I32 [33, 24]", "weight_scale": "BF16 [33, 1]", "weight_shape": "I64 [2]",
      ])
  }

  /// Encode, write, read: the codes, scales and zero points come back to the bit.
  @Test(arguments: schemes, [FloatFormat.f16, .bf16])
  func whatIsWrittenIsRead(_ scheme: LinearScheme, _ format: FloatFormat) throws {
    for (outputs, inputs) in [(1, 32), (9, 64), (33, 96)] {
      let layer = layer(scheme, outputs, inputs, format)
      let matrix = try round(layer)
      let encoded = exporter.encode(matrix, inputs: rounding(scheme), of: layer)
      var checkpoint = SmallCheckpoint()
      for tensor in exporter.tensors(of: layer) {
        checkpoint.set(
          tensor.name, tensor.dtype, tensor.shape, try #require(encoded[tensor.name]))
      }
      try inTemporaryFolder { folder in
        var recipe = Recipe.w8a8
        recipe.scheme = scheme
        checkpoint.config = exporter.config([:], try tinyPlan(recipe, in: folder))
        try checkpoint.write(to: folder)
        let reader = try CompressedTensorsReader(Checkpoint(path: folder.path))
        let weight = try reader.weight(layer.path, outputs: outputs, inputs: inputs)
        guard case .quantized(let read, let inputs) = weight else {
          Issue.record("read as float")
          return
        }
        #expect(inputs == rounding(scheme))
        #expect(read.scheme == scheme.weights)
        #expect(read.codes.array == matrix.codes.array)
        #expect(read.scales == matrix.scales)
        #expect(read.zeroPoints == matrix.zeroPoints)
      }
    }
  }

  /// A group of rows is written as channels that repeat its scale: the same values.
  @Test(arguments: [nil, ActivationScheme.dynamicPerToken(.int8)])
  func groupsOfRowsAreReadAsChannels(_ activations: ActivationScheme?) throws {
    let scheme = Self.int(8, .rowGroups(3), activations: activations)
    let layer = layer(scheme, 12, 32)
    let matrix = try round(layer)
    var checkpoint = SmallCheckpoint()
    let encoded = exporter.encode(matrix, inputs: rounding(scheme), of: layer)
    for tensor in exporter.tensors(of: layer) {
      checkpoint.set(tensor.name, tensor.dtype, tensor.shape, try #require(encoded[tensor.name]))
    }
    checkpoint.config = [
      "quantization_config": CompressedTensors.quantizationConfig([layer], ignoring: [])
    ]
    try inTemporaryFolder { folder in
      try checkpoint.write(to: folder)
      let reader = try CompressedTensorsReader(Checkpoint(path: folder.path))
      guard case .quantized(let read, _) = try reader.weight(layer.path, outputs: 12, inputs: 32)
      else {
        Issue.record("read as float")
        return
      }
      #expect(read.scheme == Self.int(8, .channel).weights)
      #expect(read.codes.array == matrix.codes.array)
      #expect(read.decoded() == matrix.decoded())
    }
  }

  /// spec/formats.md 3.4: what vLLM 0.32 takes.
  @Test func whatEnginesDoNotRunIsRefused() {
    func e4m3(
      _ granularity: WeightScheme.Granularity, _ activations: ActivationScheme?
    ) -> LinearScheme {
      LinearScheme(
        weights: WeightScheme(format: .e4m3, granularity: granularity), activations: activations)
    }
    let token = ActivationScheme.dynamicPerToken(.int8)
    let run = [
      Self.int(8, .channel), Self.int(4, .group(32)), Self.int(4, .group(32), symmetric: false),
      Self.int(8, .rowGroups(48)), Self.int(8, .channel, activations: token),
      Self.int(8, .tensor, activations: token), Self.int(8, .rowGroups(48), activations: token),
      Self.int(8, .channel, activations: .staticPerTensor(.int8)),
      Self.int(8, .tensor, activations: .staticAsymmetric),
      Self.int(4, .group(32), activations: token), Self.int(4, .channel, activations: token),
      e4m3(.channel, nil), e4m3(.channel, .dynamicPerToken(.e4m3)),
      e4m3(.tensor, .dynamicPerTensor(.e4m3)), e4m3(.tensor, .staticPerTensor(.e4m3)),
      e4m3(.block(rows: 128, columns: 128), .dynamicPerGroup(.e4m3, 128)),
    ]
    for scheme in run { #expect(CompressedTensors.isRunByVLLM(scheme), "\(scheme)") }
    let refused = [
      Self.int(8, .tensor), Self.int(8, .group(32), activations: token),
      Self.int(8, .channel, symmetric: false, activations: token),
      Self.int(8, .channel, activations: .dynamicPerTensor(.int8)),
      Self.int(4, .tensor, activations: token),
      Self.int(4, .channel, activations: .staticPerTensor(.int8)),
      Self.int(8, .block(rows: 8, columns: 8), activations: token),
      Self.int(8, .channel, activations: .dynamicPerToken(.e4m3)),
      e4m3(.group(32), nil), e4m3(.channel, token), e4m3(.channel, .staticAsymmetric),
      e4m3(.block(rows: 128, columns: 128), .staticPerTensor(.e4m3)),
    ]
    for scheme in refused { #expect(!CompressedTensors.isRunByVLLM(scheme), "\(scheme)") }
  }

  /// Numbers that no engine reads, FP4 with quantized activations, and NVFP4 of an unknown family.
  @Test func minifloatsWithoutAPlaceAreRefused() throws {
    for (weights, activations, word) in [
      (WeightScheme(format: .minifloat(.e2m5), granularity: .channel), nil, "e2m5"),
      (WeightScheme(format: .minifloat(.e2m1), granularity: .group(32)), nil, "e2m1"),
      (
        WeightScheme(format: .mxfp4, granularity: .group(32)), .dynamicPerToken(.e4m3),
        "Leave the activations float"
      ),
    ] as [(WeightScheme, ActivationScheme?, String)] {
      var recipe = Recipe.w8a8
      recipe.scheme = LinearScheme(weights: weights, activations: activations)
      try inTemporaryFolder { folder in
        let refusals = try tinyPlan(recipe, in: folder).refusals
        #expect(refusals.count == 1 && "\(refusals)".contains(word), "\(refusals)")
      }
    }
    for (recipe, count) in [(Recipe.mxfp4, 0), (.nvfp4, 1)] {
      let plan = try plan(
        ["model.layers.0.q_proj": [8, 32], "model.layers.0.down_proj": [8, 32]], recipe, exporter)
      let refusals = exporter.refusals(plan)
      #expect(refusals.count == count, "\(refusals)")
    }
  }

  @Test func aPlanNamesWhatOneEngineDoesNotRun() throws {
    try inTemporaryFolder { folder in
      var recipe = Recipe.w8a8
      recipe.scheme = Self.int(8, .channel, activations: .dynamicPerTensor(.int8))
      let plan = try tinyPlan(recipe, in: folder)
      let notes = plan.exporter.notes(plan)
      #expect(plan.refusals.isEmpty && notes.count == 1)
      #expect("\(notes)".contains("and 6 more: vLLM does not run"))
      var head = Recipe.w8a8
      head.quantizesHead = true
      let more = try tinyPlan(head, in: folder)
      #expect(more.refusals.isEmpty && exporter.notes(more).count == 1)
      #expect("\(exporter.notes(more))".contains("lm_head: vLLM does not load"))
    }
  }

  private func tinyPlan(_ recipe: Recipe, in folder: URL) throws -> Plan {
    var model = TinyModel()
    model.blocks = 1
    let source = folder.appendingPathComponent("source")
    try model.write(to: source)
    return try Plan(
      Checkpoint(path: source.path), recipe: recipe, exporter: exporter,
      windows: WindowSizes(heldOut: [32]))
  }

  /// spec/formats.md 3.1.
  @Test func theConfigBlockIsTheReferences() throws {
    let text = """
      {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {
          "group_0": {
            "targets": ["Linear"],
            "weights":           {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "dynamic": false, "group_size": null},
            "input_activations": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "token",   "dynamic": true,  "group_size": null},
            "output_activations": null,
            "format": "int-quantized"
          }
        },
        "kv_cache_scheme": null,
        "ignore": ["lm_head"],
        "global_compression_ratio": null,
        "version": "0.20.0"
      }
      """
    try inTemporaryFolder { folder in
      let source: JSON = ["model_type": "llama", "x": 1]
      let config = exporter.config(source, try tinyPlan(.w8a8, in: folder))
      #expect(config["quantization_config"] == (try JSON(parsing: text)))
      #expect(config["model_type"] == "llama" && config["x"] == 1)
    }
  }

  @Test func groupsFormatsAndTheHeadAreWrittenAsPlanned() throws {
    try inTemporaryFolder { folder in
      var recipe = try Recipe.preset("w4a16", group: 32, symmetric: false)
      recipe.quantizesHead = true
      let config = exporter.config([:], try tinyPlan(recipe, in: folder))["quantization_config"]
      let group = config?["config_groups"]?["group_0"]
      #expect(config?["format"] == "pack-quantized" && group?["format"] == "pack-quantized")
      #expect(config?["ignore"] == [] && group?["targets"] == ["Linear"])
      let head = config?["config_groups"]?["group_1"]
      #expect(head?["targets"] == ["lm_head"] && head?["weights"]?["num_bits"] == 8)
      #expect(head?["weights"]?["strategy"] == "channel" && head?["input_activations"] == .null)
      #expect(group?["input_activations"] == .null)
      #expect(
        group?["weights"] == [
          "num_bits": 4, "type": "int", "symmetric": false, "strategy": "group", "dynamic": false,
          "group_size": 32,
        ])
    }
    try inTemporaryFolder { folder in
      let config = exporter.config([:], try tinyPlan(.fp8, in: folder))["quantization_config"]
      let group = config?["config_groups"]?["group_0"]
      #expect(config?["format"] == "float-quantized" && group?["format"] == "float-quantized")
      #expect(group?["weights"]?["type"] == "float")
      #expect(group?["input_activations"]?["type"] == "float")
    }
  }
}
