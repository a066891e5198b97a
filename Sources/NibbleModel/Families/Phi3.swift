import NibbleTensor

extension Family {
  /// Phi-3, 3.5-mini, 4 and 4-mini: Llama's block with fused linears and LongRoPE. Source:
  /// transformers `modeling_phi3.py`.
  static let phi3 = Family(
    "Phi-3", modelTypes: ["phi3"],
    harmlessKeys: ["attention_bias", "original_max_position_embeddings"]
  ) { (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    var core = try fields.attention(hidden: hidden)
    core.window = try fields.optionalSize("sliding_window")
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-5)
    let context = try fields.optionalSize("max_position_embeddings") ?? 4096
    let rotary = try fields.rotary(headSize: core.headSize, context: context, share: 1)
    let activation = try fields.activation("hidden_act", default: "silu")
    let blocks = (0..<count).map { index in
      BlockShape.preNorm(
        "model.layers.\(index)", NormShape("input_layernorm", width: hidden, epsilon: epsilon),
        .fused(
          "self_attn", core, hidden: hidden, input: "qkv_proj", output: "o_proj",
          rows: .concatenated, inputBias: false, outputBias: false, rotary: rotary),
        NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon),
        .fusedGated(hidden: hidden, width: width, activation))
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
  }
}
