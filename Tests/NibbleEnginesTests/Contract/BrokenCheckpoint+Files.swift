import NibbleFormats
import NibbleTensor

@testable import NibbleEngines

extension BrokenCheckpoint {
  fileprivate static let cacheScheme: JSON = [
    "num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false, "symmetric": true,
  ]

  static let caches = [
    BrokenCheckpoint(43, "llm-compressor#967", "vllm", "KV", of: .cached) {
      $0.rename {
        $0.replacing("self_attn.k_scale", with: "self_attn.key_quantizer.scale")
          .replacing("self_attn.v_scale", with: "self_attn.value_quantizer.scale")
      }
    },
    BrokenCheckpoint(43, "sglang#5095", "sglang", "NAME", of: .cached) {
      $0.rename { $0.replacing("self_attn.k_scale", with: "self_attn.key_quantizer.scale") }
    },
    BrokenCheckpoint(44, "sglang#1559", "sglang", "KV", silent: true, of: .cached) {
      $0.tensors.removeAll { $0.name.hasSuffix("k_scale") || $0.name.hasSuffix("v_scale") }
    },
    BrokenCheckpoint(45, "Model-Optimizer#20", "vllm", "KV", silent: true, of: .cached) {
      for block in 0..<2 {
        $0.add("model.layers.\(block).self_attn.k_scale", .f32, [1], 1)
        $0.add("model.layers.\(block).self_attn.v_scale", .f32, [1], 1)
      }
    },
    BrokenCheckpoint(46, "vllm#11664", "vllm", "KV", silent: true, of: .cached) {
      for block in 0..<2 { $0.add("model.layers.\(block).self_attn.k_scale", .f32, [1], 1) }
    },
    BrokenCheckpoint(47, "vllm#6738", "vllm@0.6", "KV", of: .model(.fp8Static)) {
      $0.setQuantization("kv_cache_scheme", cacheScheme)
    },
    BrokenCheckpoint(48, "vllm#45312", "vllm", "KV", of: .cached) {
      var scheme = cacheScheme
      scheme.set("num_bits", 4)
      $0.setQuantization("kv_cache_scheme", scheme)
    },
    BrokenCheckpoint(49, "vllm-ascend#2144", "vllm-ascend", "KV", of: .described) {
      var text = $0.files["quant_model_description.json"] ?? ""
      text = text.replacing(
        "\"model_quant_type\"",
        with:
          "\"kv_quant_type\":\"C8\",\"model.layers.0.self_attn.qkv_proj.kv_cache_offset\":\"C8\",\"model_quant_type\""
      )
      $0.files["quant_model_description.json"] = text
    },
  ]

  static let heads = [
    BrokenCheckpoint(50, "vllm#31757", "vllm", "TIE", of: .model(.int8)) {
      $0.quantize("lm_head", 256, 256)
      $0.setQuantization("ignore", [])
    },
    BrokenCheckpoint(51, "llm-compressor#1820", "vllm", "IGN", of: .model(.int4)) {
      $0.quantize("lm_head", 256, 256)
    },
    BrokenCheckpoint(51, "llm-compressor#1820", "vllm", "TIE", of: .model(.int4)) {
      $0.quantize("lm_head", 256, 256)
    },
    BrokenCheckpoint(52, "vllm#45543", "sglang", "TIE", of: .model(.modeloptFP8)) {
      $0.quantize("lm_head", 256, 256)
      $0.config.set("tie_word_embeddings", true)
    },
    BrokenCheckpoint(53, "vllm#54304", "vllm@0.20", "TIE", of: .model(.int4)) {
      $0.quantize("model.embed_tokens", 256, 256)
    },
    BrokenCheckpoint(
      54, "vllm#53019", "vllm@0.20", "TIE", silent: true, of: .model(.float)
    ) {
      $0.add("lm_head.weight", .f16, [256, 256], 0.5)
      $0.config.set("tie_word_embeddings", true)
    },
    BrokenCheckpoint(
      55, "AutoAWQ#665", "transformers", "TIE", silent: true, of: .model(.int4)
    ) {
      $0.remove("lm_head.weight")
    },
    BrokenCheckpoint(56, "LlamaFactory#2789", "vllm@0.6", "TIE", of: .model(.float)) {
      $0.config.set("tie_word_embeddings", true)
    },
  ]

  static let names = [
    BrokenCheckpoint(58, "llm-compressor#2568", "vllm", "NAME", of: .model(.int8)) {
      $0.rename { $0.replacing("model.layers", with: "language_model.language_model.layers") }
    },
    BrokenCheckpoint(58, "spark-vllm-docker#403", "vllm", "NAME", of: .model(.int8)) {
      $0.rename { $0.replacing("gate_proj", with: "gate_up_proj") }
    },
    BrokenCheckpoint(59, "vllm#11354", "vllm", "IGN", of: .model(.int8, .phi3)) {
      $0.quantize(block + "self_attn.qkv_proj", 512, 256, as: .float)
      $0.setQuantization(
        "ignore",
        .array(
          ["lm_head"]
            + ["q_proj", "k_proj", "v_proj"].map { .string(block + "self_attn." + $0) }))
    },
    BrokenCheckpoint(65, "vllm-ascend#876", "vllm-ascend", "CFG", of: .described) {
      var text = $0.files["quant_model_description.json"] ?? ""
      text = text.replacing("\"model.layers.0.self_attn.q_proj.weight\"", with: "\"q_proj.weight\"")
      $0.files["quant_model_description.json"] = text
    },
    BrokenCheckpoint(65, "vllm-ascend#3534", "ascend", "CFG", of: .described) {
      let text = $0.files["quant_model_description.json"] ?? ""
      $0.files["quant_model_description.json"] = text.replacing("\"lm_head.weight\"", with: "\"x\"")
    },
    BrokenCheckpoint(66, "vllm-ascend#4313", "vllm-ascend", "CFG", of: .described) {
      let text = $0.files["quant_model_description.json"] ?? ""
      $0.files["quant_model_description.json"] = text.replacing(
        "\"model.layers", with: "\"language_model.model.layers")
    },
    BrokenCheckpoint(67, "vllm-ascend#6484", "vllm-ascend", "CFG", of: .model(.int8)) {
      $0 = ContractModel(.awq)
    },
    BrokenCheckpoint(73, "llama.cpp#9211", "llama.cpp", "NAME", of: .model(.float)) {
      $0.rename { $0.replacing("model.embed_tokens", with: "transformer.embed_in") }
    },
    BrokenCheckpoint(74, "llama.cpp#6774", "vllm", "SHARD", of: .model(.int8)) {
      $0.cut = 100
    },
    BrokenCheckpoint(70, "llama.cpp#5910", "llama.cpp", "VOC", of: .model(.float)) {
      $0.config.set("vocab_size", 250)
    },
  ]

  fileprivate static let template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"

  static let tokenizers = [
    BrokenCheckpoint(78, "vllm#18140", "vllm", "TOK", of: .chatting) {
      $0.files["tokenizer_config.json"] = "{}"
    },
    BrokenCheckpoint(79, "vllm#4180", "vllm", "EOS", silent: true, of: .chatting) {
      $0.files["generation_config.json"] = "{\"eos_token_id\": 0}"
    },
  ]

  /// Rows that files do not decide, or that another test holds, with the reason.
  static let undecidable: [Int: String] = [
    42: "the thread does not settle the cause",
    57: "an ONNX graph: the choice is a flag of the exporter",
    60: "a loader of vLLM 0.2, older than the contract",
    68: "the engine builds the name itself; the files are right",
  ]

  /// Rows of GGUF files: GGUFContractTests.
  static let inGGUF: Set<Int> = [70, 71, 72, 75, 76, 77]
}

extension BrokenCheckpoint.Base {
  /// A model with an fp8 cache.
  static let cached = BrokenCheckpoint.Base {
    var model = ContractModel(.int8)
    model.setQuantization("kv_cache_scheme", BrokenCheckpoint.cacheScheme)
    for block in 0..<2 {
      model.add("model.layers.\(block).self_attn.k_scale", .f32, [1], 0.1)
      model.add("model.layers.\(block).self_attn.v_scale", .f32, [1], 0.2)
    }
    return model
  }

  /// A model with the description of Ascend.
  static let described = BrokenCheckpoint.Base {
    var model = ContractModel(.int8)
    model.config.set("quantization_config", nil)
    model.config.set("quantize", "w8a8_dynamic")
    model.weightFile = "quant_model_weight_w8a8_dynamic.safetensors"
    var text: JSON = ["model_quant_type": "W8A8_DYNAMIC"]
    for tensor in model.tensors {
      let path = StoredModule.parent(of: tensor.name)
      let isFloat = !model.tensors.contains { $0.name == path + ".weight_scale" }
      text.set(tensor.name, isFloat ? "FLOAT" : "W8A8_DYNAMIC")
    }
    model.files["quant_model_description.json"] = text.text()
    return model
  }

  /// A model that chats.
  static let chatting = BrokenCheckpoint.Base {
    var model = ContractModel(.int8)
    model.config.set("_name_or_path", "a/Small-Instruct")
    let added: JSON = [["id": 255, "content": "<|im_end|>", "special": true]]
    var tokenizer = JSON.object(JSONObject())
    tokenizer.set("added_tokens", added)
    model.files["tokenizer.json"] = tokenizer.text()
    let config: JSON = ["chat_template": .string(BrokenCheckpoint.template)]
    model.files["tokenizer_config.json"] = config.text()
    model.files["generation_config.json"] = "{\"eos_token_id\": [0, 255]}"
    return model
  }
}
