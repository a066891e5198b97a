import Foundation
import NibbleFormats
import NibbleTensor
import TinyModel

@testable import NibbleEngines

/// A checkpoint of a few small tensors in one of the formats, which tests damage. Its codes mean
/// nothing; its names, types, shapes and config are those of the format.
struct ContractModel {
  enum Family {
    case llama
    /// Two experts a layer, `block_sparse_moe.experts.0.w1`.
    case mixtral
    /// Two experts and a shared one.
    case qwen2MoE
    /// Stores q, k and v as `qkv_proj`.
    case phi3
  }

  var config: JSON
  var tensors: [(name: String, dtype: DType, shape: [Int], bytes: [UInt8])] = []
  /// Further files, by name.
  var files: [String: String] = [:]
  /// Bytes that the weight file loses at its end.
  var cut = 0
  var weightFile = "model.safetensors"
  let hidden: Int
  let format: StoredFormat

  init(
    _ format: StoredFormat, _ family: Family = .llama, hidden: Int = 256, intermediate: Int = 512
  ) {
    self.hidden = hidden
    self.format = format
    config = [
      "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": JSON(hidden),
      "intermediate_size": JSON(intermediate), "num_hidden_layers": 2, "num_attention_heads": 4,
      "num_key_value_heads": 2, "vocab_size": 256, "rms_norm_eps": 1e-05,
      "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": false,
      "hidden_act": "silu", "torch_dtype": "float16", "eos_token_id": 0,
    ]
    let half = hidden / 2
    add("model.embed_tokens.weight", .f16, [256, hidden])
    add("lm_head.weight", .f16, [256, hidden])
    add("model.norm.weight", .f16, [hidden])
    for block in 0..<2 {
      let path = "model.layers.\(block)."
      add(path + "input_layernorm.weight", .f16, [hidden])
      add(path + "post_attention_layernorm.weight", .f16, [hidden])
      if family == .phi3 {
        quantize(path + "self_attn.qkv_proj", 2 * hidden, hidden)
        quantize(path + "mlp.gate_up_proj", 2 * intermediate, hidden)
      } else {
        quantize(path + "self_attn.q_proj", hidden, hidden)
        quantize(path + "self_attn.k_proj", half, hidden)
        quantize(path + "self_attn.v_proj", half, hidden)
      }
      quantize(path + "self_attn.o_proj", hidden, hidden)
      switch family {
      case .llama:
        quantize(path + "mlp.gate_proj", intermediate, hidden)
        quantize(path + "mlp.up_proj", intermediate, hidden)
        quantize(path + "mlp.down_proj", hidden, intermediate)
      case .phi3: quantize(path + "mlp.down_proj", hidden, intermediate)
      case .mixtral:
        add(path + "block_sparse_moe.gate.weight", .f16, [2, hidden])
        for expert in 0..<2 {
          let expert = path + "block_sparse_moe.experts.\(expert)."
          quantize(expert + "w1", intermediate, hidden)
          quantize(expert + "w3", intermediate, hidden)
          quantize(expert + "w2", hidden, intermediate)
        }
      case .qwen2MoE:
        add(path + "mlp.gate.weight", .f16, [2, hidden])
        add(path + "mlp.shared_expert_gate.weight", .f16, [1, hidden])
        for name in ["q_proj", "k_proj", "v_proj"] {
          add(path + "self_attn.\(name).bias", .f16, [name == "q_proj" ? hidden : half])
        }
        for expert in ["experts.0.", "experts.1.", "shared_expert."] {
          quantize(path + "mlp.\(expert)gate_proj", intermediate, hidden)
          quantize(path + "mlp.\(expert)up_proj", intermediate, hidden)
          quantize(path + "mlp.\(expert)down_proj", hidden, intermediate)
        }
      }
    }
    setFamily(family, intermediate)
    format.describe(&self)
    files["tokenizer.json"] = ByteTokenizer.json.text()
  }

  private mutating func setFamily(_ family: Family, _ intermediate: Int) {
    switch family {
    case .llama: break
    case .mixtral:
      config.set("model_type", "mixtral")
      config.set("num_local_experts", 2)
      config.set("num_experts_per_tok", 2)
    case .qwen2MoE:
      for (key, value) in [
        ("num_experts", 2), ("num_experts_per_tok", 2), ("moe_intermediate_size", intermediate),
        ("shared_expert_intermediate_size", intermediate), ("decoder_sparse_step", 1),
      ] {
        config.set(key, JSON(value))
      }
      config.set("model_type", "qwen2_moe")
      config.set("norm_topk_prob", false)
    case .phi3:
      config.set("model_type", "phi3")
      config.set("original_max_position_embeddings", 512)
      config.set("pad_token_id", 0)
    }
  }

  /// Adds a tensor whose bytes are small positive numbers, or replaces one.
  mutating func add(_ name: String, _ dtype: DType, _ shape: [Int], _ value: Float = 0.01) {
    let count = shape.reduce(1, *)
    let one: [UInt8] =
      switch dtype {
      case .f32: FloatFormat.f32.encode([value].span)
      case .f16: FloatFormat.f16.encode([value].span)
      case .bf16: FloatFormat.bf16.encode([value].span)
      case .u8: [0x79]
      case .f8E4M3: [0x38]
      default: [UInt8](repeating: 0, count: dtype.bits / 8)
      }
    var bytes = one
    while bytes.count < count * one.count { bytes += bytes }
    put(name, dtype, shape, Array(bytes.prefix(count * one.count)))
  }

  mutating func put(_ name: String, _ dtype: DType, _ shape: [Int], _ bytes: [UInt8]) {
    if let index = tensors.firstIndex(where: { $0.name == name }) {
      tensors[index] = (name, dtype, shape, bytes)
    } else {
      tensors.append((name, dtype, shape, bytes))
    }
  }

  /// 32-bit words.
  mutating func put(_ name: String, _ shape: [Int], words: [UInt32]) {
    let bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
    }
    put(name, .i32, shape, bytes)
  }

  mutating func remove(_ name: String) { tensors.removeAll { $0.name == name } }

  mutating func rename(_ change: (String) -> String) {
    for index in tensors.indices { tensors[index].name = change(tensors[index].name) }
  }

  /// Stores a layer in the model's format, in place of what there is.
  mutating func quantize(_ path: String, _ n: Int, _ k: Int, as other: StoredFormat? = nil) {
    tensors.removeAll { $0.name.hasPrefix(path + ".") && !$0.name.hasSuffix(".bias") }
    (other ?? format).store(path, n, k, in: &self)
  }

  /// Changes a member of the quantization config; null removes it.
  mutating func setQuantization(_ key: String, _ value: JSON) {
    var quantization = config["quantization_config"] ?? [:]
    quantization.set(key, value.isNull ? nil : value)
    config.set("quantization_config", quantization)
  }

  /// Changes a member of the one group of compressed-tensors.
  mutating func setGroup(_ part: String, _ key: String, _ value: JSON) {
    var quantization = config["quantization_config"] ?? [:]
    var groups = quantization["config_groups"] ?? [:]
    var group = groups["group_0"] ?? [:]
    var arguments = group[part] ?? [:]
    arguments.set(key, value)
    group.set(part, arguments)
    groups.set("group_0", group)
    quantization.set("config_groups", groups)
    config.set("quantization_config", quantization)
  }

  func write(to folder: String) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (name, text) in files.merging(
      ["config.json": config.text(pretty: true)], uniquingKeysWith: { a, _ in a })
    {
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/" + name))
    }
    let layout = try SafetensorsLayout(
      tensors.map { SafetensorsLayout.Tensor(name: $0.name, dtype: $0.dtype, shape: $0.shape) })
    var bytes = layout.header
    for tensor in tensors { bytes += tensor.bytes }
    try Data(bytes.dropLast(cut)).write(to: URL(fileURLWithPath: folder + "/" + weightFile))
  }

  /// What a contract finds in the checkpoint.
  func findings(_ engine: String, _ version: String? = nil, ranks: Int = 1) throws -> [Finding] {
    try inTemporaryFolder { folder in
      try write(to: folder.path)
      let contract = EngineContract.named(engine) ?? .files
      return try contract.findings(
        in: CheckpointFacts(path: folder.path, ranks: ranks),
        version: version.flatMap { EngineVersion($0) })
    }
  }
}
