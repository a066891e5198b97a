import NibbleTensor

extension Family {
  /// Mixtral: Mistral's block with a mixture of experts. Source: arXiv 2401.04088; transformers
  /// `modeling_mixtral.py`.
  static let mixtral = Family("Mixtral", modelTypes: ["mixtral"]) { (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    var core = try fields.attention(hidden: hidden)
    core.window = try fields.optionalSize("sliding_window")
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-5)
    let context = try fields.optionalSize("max_position_embeddings") ?? 131_072
    let rotary = try fields.rotary(headSize: core.headSize, context: context, theta: 1_000_000)
    let activation = try fields.activation("hidden_act", default: "silu")
    let experts = try fields.experts(
      ["num_local_experts", "num_experts"], default: 8, chosen: 2, blocks: count)
    let body = ExpertsShape.gated(
      "block_sparse_moe", hidden: hidden, width: width, count: experts.count,
      chosen: experts.chosen, .softmaxOfAll(normalizes: true), activation,
      names: ["w1", "w3", "w2"])
    let blocks = (0..<count).map { index in
      BlockShape.preNorm(
        "model.layers.\(index)", NormShape("input_layernorm", width: hidden, epsilon: epsilon),
        .split(core, hidden: hidden, rotary: rotary),
        NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon), .experts(body))
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
  }
}
