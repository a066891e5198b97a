import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@testable import NibbleEngines
@testable import NibbleQuantize

/// Families that Nibble does not run: what engines were not seen to load is refused.
@Suite struct UnknownFamilyTests {
  private func plan(
    _ type: String, _ shapes: [(String, [Int])], _ format: EngineFormat = .compressedTensors,
    _ recipe: Recipe = .w8a8
  ) throws -> Plan {
    var checkpoint = SmallCheckpoint()
    for (name, shape) in shapes {
      checkpoint.set(
        name, .f16, shape, Bytes([UInt8](repeating: 0, count: 2 * shape.reduce(1, *))))
    }
    checkpoint.config = ["model_type": .string(type)]
    return try inTemporaryFolder { folder in
      try checkpoint.write(to: folder)
      return try Plan(
        Checkpoint(path: folder.path), recipe: recipe, exporter: format.exporter,
        windows: WindowSizes())
    }
  }

  /// Names and shapes of spec/families.md 2.2, for hidden 32.
  private static let gpt2: [(String, [Int])] = [
    ("transformer.wte.weight", [64, 32]), ("transformer.h.0.attn.c_attn.weight", [32, 96]),
    ("transformer.h.0.attn.c_proj.weight", [32, 32]),
    ("transformer.h.0.mlp.c_fc.weight", [32, 128]),
    ("transformer.h.0.mlp.c_proj.weight", [128, 32]), ("transformer.h.0.ln_1.weight", [32]),
  ]
  private static let attention: [(String, [Int])] = ["q", "k", "v", "o"].map {
    ("model.layers.0.self_attn.\($0)_proj.weight", [32, 32])
  }
  private static let mixtral: [(String, [Int])] =
    attention + [("model.layers.0.block_sparse_moe.gate.weight", [2, 32])]
    + (0..<2).flatMap { expert in
      ["w1", "w2", "w3"].map {
        ("model.layers.0.block_sparse_moe.experts.\(expert).\($0).weight", [32, 32])
      }
    }
  private static let qwen3MoE: [(String, [Int])] =
    attention
    + (0..<2).map { ("model.layers.0.mlp.experts.\($0).gate_proj.weight", [32, 32]) }
  private static let gptOSS: [(String, [Int])] =
    attention + [
      ("model.layers.0.mlp.experts.gate_up_proj", [4, 32, 128]),
      ("model.layers.0.mlp.experts.down_proj", [4, 64, 32]),
      ("model.layers.0.mlp.router.weight", [4, 32]),
    ]

  @Test(arguments: EngineFormat.written)
  func conv1DIsRefused(_ format: EngineFormat) throws {
    let plan = try plan("openai-gpt", Self.gpt2, format)
    #expect(
      plan.refusals.contains {
        "\($0)".contains("c_attn.weight and 1 more: the weights of openai-gpt")
      },
      "\(plan.refusals)")
  }

  @Test func singleExpertsAreRefused() throws {
    for (type, shapes, name) in [
      ("mixtral-like", Self.mixtral, "experts.0.w1 and 5 more"),
      ("olmoe", Self.qwen3MoE, "experts.0.gate_proj and 1 more"),
    ] {
      let plan = try plan(type, shapes)
      #expect(plan.refusals.count == 1)
      #expect("\(plan.refusals)".contains(name) && "\(plan.refusals)".contains(type))
    }
  }

  @Test func stackedExpertsAreRefused() throws {
    for (type, format) in [
      ("llama4_text", EngineFormat.compressedTensors), ("granitemoe", .ascend),
    ] {
      let plan = try plan(type, Self.gptOSS, format)
      #expect(plan.refusals.count == 1, "\(plan.refusals)")
      #expect("\(plan.refusals)".contains("experts.gate_up_proj and 1 more"), "\(plan.refusals)")
    }
  }

  @Test func expertsThatStayFloatAreListedAndWhatLittleIsSavedIsSaid() throws {
    let plan = try plan("llama4_text", Self.gptOSS)
    let kept = plan.keptFloat.map(\.path)
    for name in ["gate_up_proj", "down_proj"] {
      #expect(kept.contains("model.layers.0.mlp.experts.\(name)"), "\(kept)")
    }
    #expect(plan.layers.count == 4)
    #expect(plan.notes.contains { $0.contains("this saves") && $0.contains("%") }, "\(plan.notes)")
    // An engine is told of linear layers alone, as before.
    #expect(plan.keptFloat.filter(\.isLinear).map(\.path) == ["model.layers.0.mlp.router"])
  }

  /// Vectors under 1 % are not listed.
  @Test func smallTensorsAreNotListed() throws {
    let plan = try plan(
      "persimmon-like", Self.attention + [("model.layers.0.self_attn.q_proj.bias", [32])])
    #expect(plan.keptFloat.isEmpty)
    #expect(plan.notes.isEmpty)
  }

  @Test func matricesOfSingleModulesAreNotRefused() throws {
    let neox: [(String, [Int])] = [
      ("gpt_neox.layers.0.attention.query_key_value.weight", [96, 32]),
      ("gpt_neox.layers.0.attention.dense.weight", [32, 32]),
      ("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", [128, 32]),
      ("gpt_neox.layers.0.mlp.dense_4h_to_h.weight", [32, 128]),
    ]
    for (type, shapes, layers) in [
      ("gpt_neox_japanese", neox, 4), ("persimmon-like", Self.attention, 4),
    ] {
      let plan = try plan(type, shapes)
      #expect(plan.refusals.isEmpty && plan.layers.count == layers, "\(type): \(plan.refusals)")
    }
  }
}
