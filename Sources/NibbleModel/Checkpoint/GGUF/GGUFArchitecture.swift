import NibbleFormats

/// How the models of one `general.architecture` are stored in a GGUF file: tensor names, row order,
/// changes made by the converter, and metadata keys of the architecture.
///
/// Source: the converter and the loader of llama.cpp, as of 2026.
struct GGUFArchitecture: Sendable {
  /// Value of `general.architecture`, and the prefix of its metadata keys.
  let name: String
  /// `model_type` of the config that is built from the file.
  let modelType: String
  let className: String
  /// Module paths within a block: the file's name to Hugging Face's.
  let modules: [String: String]
  /// Whether rows of query and key are interleaved for rotary embedding.
  var interleavesHeads = false
  /// Constant that the converter adds to the weights of norms.
  var normOffset: Float = 0
  /// Keys that ``complete`` reads, or that are redundant.
  var keys: Set<String> = []
  /// Adds the fields that the family's config needs.
  var complete: @Sendable (inout JSON, GGUFMetadata) throws(ModelError) -> Void = { _, _ in }

  static let all = [llama, qwen2, qwen3, gemma2, gemma3]

  /// Hugging Face's name of a tensor; nil for one without a counterpart.
  func huggingFaceName(_ name: String) -> String? {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard let last = parts.last, last == "weight" || last == "bias" else { return nil }
    if parts.count == 2 {
      let names = [
        "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
      ]
      return names[parts[0]].map { "\($0).\(last)" }
    }
    guard parts.count == 4, parts[0] == "blk", let block = Int(parts[1]), block >= 0 else {
      return nil
    }
    return modules[parts[2]].map { "model.layers.\(block).\($0).\(last)" }
  }

  /// Names of the linears in most families.
  static let linears = [
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
  ]
  /// Names of the norms of Llama.
  static let norms = ["attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"]
  /// Names of the norms of queries and keys.
  static let headNorms = ["attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"]

  private static func joined(_ maps: [String: String]...) -> [String: String] {
    maps.reduce(into: [:]) { $0.merge($1) { first, _ in first } }
  }
}

extension GGUFArchitecture {
  static let llama = GGUFArchitecture(
    name: "llama", modelType: "llama", className: "LlamaForCausalLM",
    modules: joined(linears, norms), interleavesHeads: true
  ) { (config, metadata) throws(ModelError) in
    config.set("hidden_act", "silu")
    config.set("attention_bias", .bool(metadata.file.tensor("blk.0.attn_q.bias") != nil))
    config.set("mlp_bias", .bool(metadata.file.tensor("blk.0.ffn_gate.bias") != nil))
  }

  static let qwen2 = GGUFArchitecture(
    name: "qwen2", modelType: "qwen2", className: "Qwen2ForCausalLM",
    modules: joined(linears, norms))

  static let qwen3 = GGUFArchitecture(
    name: "qwen3", modelType: "qwen3", className: "Qwen3ForCausalLM",
    modules: joined(linears, norms, headNorms)
  ) { (config, metadata) throws(ModelError) in
    config.set("attention_bias", .bool(metadata.file.tensor("blk.0.attn_q.bias") != nil))
  }

  /// Norms are stored as `1 + w`; the scale of attention is not stored.
  static let gemma2 = GGUFArchitecture(
    name: "gemma2", modelType: "gemma2", className: "Gemma2ForCausalLM",
    modules: joined(linears, gemmaNorms), normOffset: 1,
    keys: ["attn_logit_softcapping", "final_logit_softcapping", "attention.sliding_window"]
  ) { (config, metadata) throws(ModelError) in
    try completeGemma(&config, metadata, largest: 46)
    for (field, key) in [
      ("attn_logit_softcapping", "attn_logit_softcapping"),
      ("final_logit_softcapping", "final_logit_softcapping"),
    ] {
      if let cap = try metadata.number(key) { config.set(field, .number(Double(cap))) }
    }
  }

  static let gemma3 = GGUFArchitecture(
    name: "gemma3", modelType: "gemma3_text", className: "Gemma3ForCausalLM",
    modules: joined(linears, gemmaNorms, headNorms), normOffset: 1,
    keys: [
      "attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa",
      "final_logit_softcapping",
    ]
  ) { (config, metadata) throws(ModelError) in
    try completeGemma(&config, metadata, largest: 62)
    config.set(
      "rope_local_base_freq", .number(Double(try metadata.number("rope.freq_base_swa") ?? 10_000)))
    if metadata.value("rope.freq_base") == nil { config.set("rope_theta", 1_000_000.0) }
    if let pattern = try metadata.optionalSize("attention.sliding_window_pattern") {
      config.set("sliding_window_pattern", JSON(pattern))
    }
    if let cap = try metadata.number("final_logit_softcapping") {
      config.set("final_logit_softcapping", .number(Double(cap)))
    }
  }

  private static let gemmaNorms = [
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
  ]

  /// - Parameter largest: number of blocks of the model whose attention is scaled by `hidden /
  ///   heads`.
  private static func completeGemma(
    _ config: inout JSON, _ metadata: GGUFMetadata, largest: Int
  ) throws(ModelError) {
    config.set("hidden_activation", "gelu_pytorch_tanh")
    let (hidden, heads) = (
      try metadata.size("embedding_length"), try metadata.size("attention.head_count")
    )
    let headSize = try metadata.optionalSize("attention.key_length") ?? hidden / heads
    let isLargest = try metadata.size("block_count") == largest
    config.set("query_pre_attn_scalar", JSON(isLargest ? hidden / heads : headSize))
    if let window = try metadata.optionalSize("attention.sliding_window") {
      config.set("sliding_window", JSON(window))
    }
  }
}
