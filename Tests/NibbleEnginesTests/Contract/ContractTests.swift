import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import Testing
import TinyModel

@testable import NibbleEngines

@Suite struct ContractTests {
  @Test func everyRuleNamesACheckAndIsUsable() {
    for contract in EngineContract.all + [.files] {
      for rule in contract.rules {
        #expect(ContractChecks.all[rule.check] != nil, "\(contract.engine) \(rule.id)")
        #expect(!rule.source.isEmpty && !rule.fix.isEmpty && !rule.happens.isEmpty)
      }
    }
    let used = Set((EngineContract.all + [.files]).flatMap(\.rules).map(\.check))
    #expect(used == Set(ContractChecks.all.keys))
  }

  @Test func versionsCompareByNumber() throws {
    let range = try #require(VersionRange("0.6...0.10"))
    for (text, isInside) in [
      ("0.6", true), ("0.9.1", true), ("0.10.2", true), ("0.11", false), ("0.5.5", false),
      ("0.32", false),
    ] {
      #expect(range.contains(try #require(EngineVersion(text))) == isInside, "\(text)")
    }
    for text in ["", "x", "0.x", "1.", "0.1.2.3.4", "-1", "99999999999999999999"] {
      #expect(EngineVersion(text) == nil, "\(text)")
    }
  }

  /// Each broken checkpoint is found by the check of the corpus, and the whole one is not.
  @Test(arguments: BrokenCheckpoint.all)
  func brokenCheckpointsAreFound(_ broken: BrokenCheckpoint) throws {
    var model = broken.good.make()
    let before = try model.findings(broken.engine, broken.version, ranks: broken.ranks)
    #expect(!before.contains { $0.check == broken.check }, "\(before)")
    broken.damage(&model)
    let found = try model.findings(broken.engine, broken.version, ranks: broken.ranks)
    let named = found.filter { $0.check == broken.check }
    #expect(!named.isEmpty, "found instead: \(found)")
    if broken.isSilent { #expect(named.contains { $0.level == .error }, "\(named)") }
  }

  @Test func everyRowOfTheCorpusIsBuiltOrHasAReason() {
    let built = Set(BrokenCheckpoint.all.map(\.row)).union(BrokenCheckpoint.inGGUF)
    #expect(built.isDisjoint(with: BrokenCheckpoint.undecidable.keys))
    #expect(built.union(BrokenCheckpoint.undecidable.keys) == Set(1...80))
  }

  /// A checkpoint as a format's specification describes it has no finding, in any engine that reads it.
  @Test(arguments: StoredFormat.allCases)
  func goodCheckpointsHaveNoFindings(_ format: StoredFormat) throws {
    for engine in format.engines {
      let findings = try ContractModel(format).findings(engine)
      #expect(findings.isEmpty, "\(engine): \(findings)")
    }
  }

  @Test(arguments: StoredFormat.allCases.filter { $0 != .mlx && $0 != .int8Static })
  func goodMixturesHaveNoFindings(_ format: StoredFormat) throws {
    for family in [ContractModel.Family.mixtral, .qwen2MoE] {
      for engine in format.engines where engine != "mlx" {
        if format == .nvfp4, engine == "transformers" { continue }
        let findings = try ContractModel(format, family).findings(engine)
        #expect(findings.isEmpty, "\(engine): \(findings)")
      }
    }
  }

  /// The float models of every family that Nibble knows, as transformers names their tensors.
  @Test func floatModelsOfAllFamiliesHaveNoFindings() throws {
    let families = [
      "bloom", "cohere", "cohere2", "gemma2", "gemma3", "gemma4", "glm", "glm4", "gpt2",
      "gpt_neox", "gpt_oss", "granite", "internlm", "internlm2", "llama", "mixtral", "olmo2",
      "olmo3", "opt", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_5", "qwen3_moe", "smollm3",
      "stablelm",
    ]
    for model in FamilyFixture.models(of: families) {
      let findings = try inTemporaryFolder { folder in
        try model.write(in: folder.path)
        return EngineContract.files.findings(in: try CheckpointFacts(path: folder.path))
      }
      #expect(!findings.contains { $0.level == .error }, "\(model): \(findings)")
    }
  }

  @Test func unknownFamiliesAreCheckedByNames() throws {
    var model = ContractModel(.int8)
    model.config.set("model_type", "of_no_family")
    #expect(try model.findings("vllm").isEmpty)
    model.remove("model.layers.1.mlp.up_proj.weight_scale")
    model.add("model.layers.0.self_attn.q_proj.weight_scale", .f32, [255, 1])
    let checks = Set(try model.findings("vllm").map(\.check))
    #expect(checks.isSuperset(of: ["SET", "SHAPE"]), "\(checks)")
  }

  @Test func equalFindingsAreOneWithACount() throws {
    var model = ContractModel(.int8)
    model.tensors.removeAll { $0.name.hasSuffix("weight_scale") }
    let findings = try model.findings("vllm").filter { $0.check == "SET" }
    #expect(findings.count == 1 && findings[0].count == 14, "\(findings)")
    #expect(findings[0].description.contains("and 13 more"))
  }

  /// What published checkpoints look like, where a careless check sees a fault.
  @Test func habitsOfPublishersAreNoFindings() throws {
    // mlx-lm writes its config twice.
    var mlx = ContractModel(.mlx)
    mlx.config.set("quantization_config", mlx.config["quantization"])
    #expect(try mlx.findings("mlx").isEmpty)
    // AWQ leaves routers float by a name that is part of gate_proj; experts are one module.
    var awq = ContractModel(.awq, .mixtral)
    awq.setQuantization("modules_to_not_convert", ["gate"])
    #expect(try awq.findings("vllm").isEmpty)
    // Latent attention: every rank has the whole of a 576-wide projection.
    var latent = ContractModel(.fp8Block)
    latent.config.set("model_type", "of_no_family")
    latent.quantize("model.layers.0.self_attn.kv_a_proj_with_mqa", 576, 256)
    #expect(try latent.findings("vllm", ranks: 1).isEmpty)
    // AutoGPTQ stores a bias of zeros for every layer.
    var gptq = ContractModel(.gptq)
    for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
      gptq.add("model.layers.0.self_attn.\(name).bias", .f16, [name.hasPrefix("k") ? 128 : 256])
    }
    #expect(try gptq.findings("vllm").isEmpty)
    // Weights of another loader beside the model.
    var beside = ContractModel(.int8)
    beside.files["consolidated.safetensors"] = ""
    let found = try beside.findings("vllm")
    #expect(found.map(\.check) == ["SHARD"] && found[0].level == .warning, "\(found)")
  }
}
