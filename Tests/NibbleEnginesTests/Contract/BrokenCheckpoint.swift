import NibbleFormats
import Testing

@testable import NibbleEngines

/// A row of the corpus of broken checkpoints of public issue threads, in miniature.
struct BrokenCheckpoint: Sendable, CustomTestStringConvertible {
  /// Number in the corpus, and the issue.
  var row: Int
  var issue: String
  var engine: String
  var version: String?
  var ranks = 1
  /// The check that must find it.
  var check: String
  /// Whether the engine would run and answer with damaged text, which must be an error.
  var isSilent = false
  var good: Base
  var damage: @Sendable (inout ContractModel) -> Void

  var testDescription: String {
    "\(row) \(issue): \(check) for \(engine)\(version.map { "@\($0)" } ?? "")"
  }

  init(
    _ row: Int, _ issue: String, _ engine: String, ranks: Int = 1, _ check: String,
    silent: Bool = false,
    of good: Base,
    _ damage: @escaping @Sendable (inout ContractModel) -> Void = { _ in }
  ) {
    let parts = engine.split(separator: "@").map(String.init)
    (self.row, self.issue, self.engine) = (row, issue, parts[0])
    version = parts.count > 1 ? parts[1] : nil
    (self.ranks, self.check, self.isSilent) = (ranks, check, silent)
    (self.good, self.damage) = (good, damage)
  }

  /// A checkpoint before the damage.
  struct Base: Sendable {
    let make: @Sendable () -> ContractModel

    init(_ make: @escaping @Sendable () -> ContractModel) { self.make = make }

    static func model(
      _ format: StoredFormat, _ family: ContractModel.Family = .llama
    ) -> Base {
      Base { ContractModel(format, family) }
    }
  }

  static let block = "model.layers.0."
  static let all =
    zeroPoints + sizes + configs + mixtures + scales + caches + heads + names + tokenizers

  private static let zeroPoints = [
    BrokenCheckpoint(
      1, "vllm#26343", "vllm@0.10", "ZERO", silent: true, of: .model(.gptq)
    ) { $0 = ContractModel(.gptq2) },
    BrokenCheckpoint(
      2, "vllm#38966", "lmdeploy", "ZERO", silent: true, of: .model(.gptq)
    ) {
      $0 = ContractModel(.gptq2)
      $0.setQuantization("checkpoint_format", "gptq")
    },
    BrokenCheckpoint(
      2, "vllm#38966", "transformers", "ZERO", silent: true, of: .model(.gptq)
    ) {
      $0 = ContractModel(.gptq2)
      $0.setQuantization("checkpoint_format", "gptq")
    },
    BrokenCheckpoint(
      3, "vllm#14126", "vllm", "GIDX", silent: true, of: .model(.gptq)
    ) {
      $0.setQuantization("desc_act", true)
      $0.put(block + "self_attn.q_proj.g_idx", [256], words: (0..<256).map { UInt32($0 % 2) })
    },
    BrokenCheckpoint(4, "vllm#17862", "vllm", "SHAPE", of: .model(.int4Asymmetric)) {
      $0.add(block + "mlp.up_proj.weight_zero_point", .i32, [512, 2])
    },
    BrokenCheckpoint(
      19, "llm-compressor#2255", "vllm", "SYM", of: .model(.int4Asymmetric)
    ) {
      $0.setGroup("weights", "symmetric", true)
    },
    BrokenCheckpoint(
      20, "llm-compressor#1618", "transformers", "ENG", of: .model(.int4)
    ) { $0 = ContractModel(.int4Asymmetric) },
  ]

  private static let sizes = [
    BrokenCheckpoint(5, "vllm#1258", "vllm", ranks: 4, "TPG", of: .model(.float)) {
      $0 = ContractModel(.int4, intermediate: 384)
    },
    BrokenCheckpoint(5, "sglang#3571", "sglang", ranks: 4, "TPG", of: .model(.float)) {
      $0 = ContractModel(.awq, intermediate: 384)
    },
    BrokenCheckpoint(
      6, "auto-round#643", "vllm", ranks: 2, "TPG", silent: true, of: .model(.float)
    ) { $0 = ContractModel(.gptq, hidden: 896, intermediate: 1024) },
    BrokenCheckpoint(7, "lmdeploy#1560", "lmdeploy", ranks: 4, "TPG", of: .model(.float)) {
      $0 = ContractModel(.awq, intermediate: 384)
    },
    BrokenCheckpoint(7, "lmdeploy#1560", "lmdeploy", "ENG", of: .model(.awq)) {
      $0.setQuantization("group_size", 64)
    },
    BrokenCheckpoint(8, "AutoAWQ#602", "vllm", "SHAPE", of: .model(.float)) {
      $0 = ContractModel(.awq, intermediate: 448)
    },
    BrokenCheckpoint(9, "vllm#9913", "vllm@0.6", ranks: 4, "TILE", of: .model(.float)) {
      $0 = ContractModel(.awq, hidden: 256, intermediate: 640)
    },
    BrokenCheckpoint(10, "vllm#17604", "vllm", ranks: 4, "TILE", of: .model(.float)) {
      $0 = ContractModel(.gptq, .mixtral, intermediate: 128)
    },
    BrokenCheckpoint(11, "sglang#3345", "sglang", "BLK", of: .model(.fp8Block)) {
      $0.quantize(block + "self_attn.k_proj", 96, 256)
      $0.rename { $0 }
      $0.config.set("head_dim", 48)
    },
    BrokenCheckpoint(
      11, "transformers#36026", "vllm", ranks: 2, "BLK", of: .model(.float)
    ) {
      $0 = ContractModel(.fp8Block, intermediate: 640)
    },
    BrokenCheckpoint(12, "vllm#52997", "vllm", ranks: 2, "BLK", of: .model(.float)) {
      $0 = ContractModel(.fp8Block)
    },
    BrokenCheckpoint(12, "sglang#26107", "sglang", "BLK", of: .model(.float)) {
      $0 = ContractModel(.fp8Block, .mixtral, intermediate: 192)
    },
  ]

  private static let configs = [
    BrokenCheckpoint(13, "lmdeploy#2219", "lmdeploy", "ENG", of: .model(.gptq)) {
      $0.setQuantization("group_size", 32)
    },
    BrokenCheckpoint(14, "vllm#18885", "vllm", "ENG", of: .model(.awq)) {
      $0.setQuantization("group_size", -1)
    },
    BrokenCheckpoint(15, "mlx-lm#989", "mlx", "ENG", silent: true, of: .model(.mlx)) {
      $0 = ContractModel(.int4)
    },
    BrokenCheckpoint(16, "vllm#1823", "vllm@0.6", "DTYPE", of: .model(.awq)) {
      $0.config.set("torch_dtype", "bfloat16")
    },
    BrokenCheckpoint(17, "llm-compressor#959", "vllm", "CFG", of: .model(.int8)) {
      $0.config.set("quantization_config", nil)
    },
    BrokenCheckpoint(18, "compressed-tensors#135", "vllm", "CFG", of: .model(.int8)) {
      $0.setQuantization("config_groups", [:])
    },
    BrokenCheckpoint(21, "llm-compressor#1427", "vllm", "ENG", of: .model(.int8)) {
      $0.setGroup("input_activations", "num_bits", 4)
    },
    BrokenCheckpoint(21, "sglang#9642", "sglang", "ENG", of: .model(.int8)) {
      $0.setGroup("weights", "num_bits", 4)
    },
    BrokenCheckpoint(22, "llm-compressor#1241", "vllm", "CFG", of: .model(.int8)) {
      $0.setQuantization(
        "sparsity_config", ["format": "sparse-24-bitmask", "targets": ["Linear"]])
    },
    BrokenCheckpoint(31, "vllm#16474", "vllm@0.8", "ENG", of: .model(.float, .mixtral)) {
      $0 = ContractModel(.fp8Channel, .mixtral)
    },
    BrokenCheckpoint(
      35, "transformers#48371", "transformers", "ENG", silent: true,
      of: .model(.float, .mixtral)
    ) { $0 = ContractModel(.nvfp4, .mixtral) },
    BrokenCheckpoint(39, "sglang#29530", "sglang", "ENG", of: .model(.int8)) {
      $0 = ContractModel(.int8Static)
    },
    BrokenCheckpoint(61, "vllm#11010", "vllm", "ENG", of: .model(.float)) {
      $0.config.set("quantization_config", ["quant_method": "bitsandbytes", "load_in_4bit": true])
      $0.add(block + "mlp.up_proj.weight.absmax", .f32, [8])
    },
    BrokenCheckpoint(62, "vllm#57048", "vllm", "CFG", of: .model(.float)) {
      $0 = ContractModel(.fp8Static)
      $0.setQuantization("quant_method", "mxfp4")
    },
    BrokenCheckpoint(63, "lmdeploy#4440", "lmdeploy@0.12", "ENG", of: .model(.int4)) {
      $0 = ContractModel(.mxfp4)
    },
    BrokenCheckpoint(64, "lmdeploy#2243", "lmdeploy", "ENG", of: .model(.awq)) {
      $0 = ContractModel(.smoothQuant)
    },
    BrokenCheckpoint(69, "llama.cpp#11122", "llama.cpp", "ENG", of: .model(.fp8Block)) {
      $0 = ContractModel(.fp8Static)
    },
    BrokenCheckpoint(69, "llama.cpp#9252", "llama.cpp", "ENG", of: .model(.float)) {
      $0 = ContractModel(.awq)
    },
    BrokenCheckpoint(
      80, "llm-compressor#1349", "vllm", "DTYPE", silent: true, of: .model(.int4)
    ) {
      $0.config.set("model_type", "gemma2")
    },
  ]

  private static let mixtures = [
    BrokenCheckpoint(23, "llm-compressor#2730", "vllm", "FUSE", of: .model(.mxfp4)) {
      $0.split(block + "self_attn.k_proj", bits: 8, format: "mxfp8-quantized")
      $0.tensors.removeAll { $0.name == block + "self_attn.k_proj.weight_packed" }
      $0.add(block + "self_attn.k_proj.weight", .f8E4M3, [128, 256])
    },
    BrokenCheckpoint(24, "auto-round#2174", "vllm", "FUSE", of: .model(.int4)) {
      $0.split(block + "mlp.up_proj", bits: 8, format: "pack-quantized")
      $0.add(block + "mlp.up_proj.weight_packed", .i32, [512, 64])
    },
    BrokenCheckpoint(25, "GPTQModel#1485", "vllm@0.7", "CFG", of: .model(.gptq)) {
      $0.setQuantization("dynamic", ["+:.*down_proj": ["bits": 8]])
    },
    BrokenCheckpoint(25, "vllm#15665", "vllm", "EXP", of: .model(.gptq, .mixtral)) {
      $0.setQuantization("dynamic", ["+:.*experts\\.1\\.w2": ["bits": 8]])
    },
    BrokenCheckpoint(26, "GPTQModel#2221", "vllm", "EXP", of: .model(.gptq, .mixtral)) {
      let path = block + "block_sparse_moe.experts.1."
      for name in ["w1", "w2", "w3"] {
        $0.quantize(path + name, name == "w2" ? 256 : 512, name == "w2" ? 512 : 256, as: .float)
      }
    },
    BrokenCheckpoint(27, "auto-round#769", "vllm", "IGN", of: .model(.int4, .qwen2MoE)) {
      let path = block + "mlp.shared_expert."
      $0.quantize(path + "gate_proj", 512, 256, as: .float)
      $0.quantize(path + "up_proj", 512, 256, as: .float)
      $0.quantize(path + "down_proj", 256, 512, as: .float)
    },
    BrokenCheckpoint(28, "vllm#28274", "vllm", "EXP", of: .model(.int4, .mixtral)) {
      $0.tensors.removeAll { $0.name.contains("experts.1.w2") }
    },
    BrokenCheckpoint(28, "sglang#19644", "sglang", "NAME", of: .model(.int4, .mixtral)) {
      $0.rename { $0.replacing(".w2.", with: ".down_proj.") }
    },
    BrokenCheckpoint(29, "vllm#40358", "vllm", "NAME", of: .model(.int4, .mixtral)) {
      $0.add(block + "block_sparse_moe.experts.w13_bias", .f16, [2, 1024])
    },
    BrokenCheckpoint(30, "vllm#9316", "vllm", "NAME", of: .model(.fp8Static, .mixtral)) {
      $0.add(block + "block_sparse_moe.experts.0.w1.act_scale", .f32, [1])
    },
    BrokenCheckpoint(32, "vllm#22017", "vllm", "ROUTER", of: .model(.gptq, .mixtral)) {
      $0.quantize(block + "block_sparse_moe.gate", 8, 256)
    },
    BrokenCheckpoint(
      33, "vllm-omni#5573", "vllm", "ROUTER", silent: true, of: .model(.int4, .mixtral)
    ) { $0.add(block + "block_sparse_moe.gate.weight", .f16, [2, 256], 0) },
    BrokenCheckpoint(
      34, "transformers#47407", "transformers", "NAME", silent: true,
      of: .model(.float, .mixtral)
    ) { $0.rename { $0.replacing("block_sparse_moe.experts", with: "moe.local_experts") } },
    BrokenCheckpoint(
      34, "transformers#47407", "transformers", "SET", silent: true,
      of: .model(.float, .mixtral)
    ) { $0.rename { $0.replacing("block_sparse_moe.experts", with: "moe.local_experts") } },
  ]

  private static let scales = [
    BrokenCheckpoint(
      36, "vllm#55073", "vllm", "FUSESCALE", silent: true, of: .model(.modeloptNVFP4)
    ) { $0.add(block + "mlp.gate_proj.weight_scale_2", .f32, [], 0.02) },
    BrokenCheckpoint(
      37, "vllm#36094", "vllm", "FUSESCALE", silent: true, of: .model(.nvfp4)
    ) { $0.add(block + "self_attn.v_proj.weight_global_scale", .f32, [1], 200) },
    BrokenCheckpoint(
      38, "vllm#38197", "vllm", "FUSESCALE", silent: true, of: .model(.fp8Static)
    ) { $0.add(block + "self_attn.k_proj.weight_scale", .f32, [1], 0.5) },
    BrokenCheckpoint(39, "sglang#29530", "vllm", "FUSESCALE", of: .model(.int8Static)) {
      $0.add(block + "self_attn.k_proj.input_scale", .f32, [1], 0.5)
    },
    BrokenCheckpoint(
      40, "sglang#14102", "sglang", "SHAPE", silent: true, of: .model(.float, .phi3)
    ) { $0 = ContractModel(.fp8Static, .phi3) },
    BrokenCheckpoint(
      41, "vllm-omni#5263", "vllm", "SET", silent: true, of: .model(.fp8Static)
    ) { $0.remove(block + "self_attn.o_proj.input_scale") },
    BrokenCheckpoint(
      41, "vllm-omni#5263", "vllm", "FIN", silent: true, of: .model(.fp8Static)
    ) { $0.add(block + "self_attn.o_proj.input_scale", .f32, [1], -3.4e38) },
  ]
}

extension ContractModel {
  /// Gives one layer a group of its own.
  mutating func split(_ path: String, bits: Int, format: String) {
    var quantization = config["quantization_config"] ?? [:]
    var groups = quantization["config_groups"] ?? [:]
    var group = groups["group_0"] ?? [:]
    var weights = group["weights"] ?? [:]
    weights.set("num_bits", JSON(bits))
    group.set("weights", weights)
    group.set("targets", [.string(path)])
    group.set("format", .string(format))
    groups.set("group_1", group)
    quantization.set("config_groups", groups)
    quantization.set("format", "mixed-precision")
    config.set("quantization_config", quantization)
  }
}
