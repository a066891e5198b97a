import NibbleFormats
import NibbleTensor

extension Family {
  /// Qwen2 and Qwen2.5: Llama's block with biases on query, key and value. Source: transformers
  /// `modeling_qwen2.py`.
  static let qwen2 = Family("Qwen2", modelTypes: ["qwen2"]) { (fields) throws(ModelError) in
    try qwen(fields, headSize: nil, normsHeads: false)
  }

  /// Qwen1.5-MoE and Qwen2-MoE: a mixture of experts with a shared expert. Source: transformers
  /// `modeling_qwen2_moe.py`.
  static let qwen2MoE = Family("Qwen2-MoE", modelTypes: ["qwen2_moe"]) {
    (fields) throws(ModelError) in
    try qwen(fields, headSize: nil, normsHeads: false, hasExperts: true)
  }

  /// Qwen3: norms of queries and keys instead of biases. Source: transformers `modeling_qwen3.py`.
  static let qwen3 = Family("Qwen3", modelTypes: ["qwen3"]) { (fields) throws(ModelError) in
    try qwen(fields, headSize: 128, normsHeads: true)
  }

  /// Qwen3-MoE: Qwen3's attention with a mixture of experts. Source: transformers
  /// `modeling_qwen3_moe.py`.
  static let qwen3MoE = Family("Qwen3-MoE", modelTypes: ["qwen3_moe"]) {
    (fields) throws(ModelError) in
    try qwen(fields, headSize: nil, normsHeads: true, hasExperts: true)
  }

  private static func qwen(
    _ fields: ConfigFields, headSize: Int?, normsHeads: Bool, hasExperts: Bool = false
  ) throws(ModelError) -> DecoderShape {
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden, headSize: headSize)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-6)
    let context = try fields.optionalSize("max_position_embeddings") ?? 32_768
    let rotary = try fields.rotary(headSize: core.headSize, context: context)
    let bias =
      normsHeads
      ? try fields.flag("attention_bias")
      : hasExperts ? try fields.flag("qkv_bias", default: true) : true
    let activation = try fields.activation("hidden_act", default: "silu")
    // Configs contain a window even if `use_sliding_window` is false.
    let isWindowed = try fields.flag("use_sliding_window")
    if !isWindowed { fields.pass("sliding_window") }
    let window = isWindowed ? try fields.optionalSize("sliding_window") ?? 4096 : 0
    let firstSliding = fields["max_window_layers"]?.int ?? 28
    let slides = try fields.slides(blocks: count) { index in
      // Dense models: from `max_window_layers` on. Qwen3-MoE: all. Qwen2-MoE: even blocks before
      // it.
      guard hasExperts else { return index >= firstSliding }
      return normsHeads || index.isMultiple(of: 2) && index < firstSliding
    }
    let bodies = try qwenBodies(
      fields, hidden, width, activation, blocks: count, hasExperts: hasExperts,
      hasSharedExpert: !normsHeads)
    let blocks = (0..<count).map { index in
      var core = core
      if isWindowed, slides[index] { core.window = window }
      var attention = AttentionShape.split(
        core, hidden: hidden, inputBias: bias, outputBias: normsHeads && bias, rotary: rotary)
      if normsHeads {
        let norm = { (name: String) in
          NormShape("self_attn.\(name)", width: core.headSize, epsilon: epsilon)
        }
        attention.queryNorm = AttentionShape.HeadNorm(norm("q_norm"), .head)
        attention.keyNorm = AttentionShape.HeadNorm(norm("k_norm"), .head)
      }
      return BlockShape.preNorm(
        "model.layers.\(index)", NormShape("input_layernorm", width: hidden, epsilon: epsilon),
        attention, NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon),
        bodies[index])
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
  }

  /// The second branch of each block: a dense feed-forward unit, or experts where the config says
  /// so. Qwen2-MoE has a shared expert, Qwen3-MoE has none.
  private static func qwenBodies(
    _ fields: ConfigFields, _ hidden: Int, _ width: Int, _ activation: Activation, blocks: Int,
    hasExperts: Bool, hasSharedExpert: Bool
  ) throws(ModelError) -> [BlockShape.Branch.Body] {
    let dense = BlockShape.Branch.Body.feedForward(
      .gated(hidden: hidden, width: width, activation))
    guard hasExperts else { return Array(repeating: dense, count: blocks) }
    let experts = try fields.experts(
      ["num_experts", "num_local_experts"], default: hasSharedExpert ? 60 : 128,
      chosen: hasSharedExpert ? 4 : 8, blocks: blocks)
    var body = ExpertsShape.gated(
      "mlp", hidden: hidden, width: try fields.size("moe_intermediate_size"),
      count: experts.count, chosen: experts.chosen,
      .softmaxOfAll(normalizes: try fields.flag("norm_topk_prob")), activation)
    if hasSharedExpert {
      body.shared = ExpertsShape.Shared(
        .gated(
          "mlp.shared_expert", hidden: hidden,
          width: try fields.size("shared_expert_intermediate_size"), activation),
        gate: .router("mlp.shared_expert_gate", experts: 1, hidden: hidden))
    }
    let step = try fields.optionalSize("decoder_sparse_step") ?? 1
    let denseBlocks = try fields.integers("mlp_only_layers")
    return (0..<blocks).map { index in
      denseBlocks.contains(index) || !(index + 1).isMultiple(of: step) ? dense : .experts(body)
    }
  }
}
