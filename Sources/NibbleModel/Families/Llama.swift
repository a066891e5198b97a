import NibbleTensor

extension Family {
  /// Llama 1, 2, 3 and 3.1, Mistral, SmolLM: RMS norm, rotary grouped-query attention, gated SiLU.
  static let llama = Family("Llama", modelTypes: ["llama", "mistral", "smollm"]) {
    (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    var core = try fields.attention(hidden: hidden)
    core.window = try fields.optionalSize("sliding_window")
    let epsilon = Float(try fields.number("rms_norm_eps", in: 1e-12...0.1))
    let context = try fields.optionalSize("max_position_embeddings") ?? 2048
    let rotary = try fields.rotary(headSize: core.headSize, context: context)
    let attentionBias = try fields.flag("attention_bias")
    let mlpBias = try fields.flag("mlp_bias")
    let activation = try fields.activation("hidden_act", default: "silu")
    let blocks = (0..<count).map { index in
      BlockShape.preNorm(
        "model.layers.\(index)",
        NormShape("input_layernorm", width: hidden, epsilon: epsilon),
        .split(
          core, hidden: hidden, inputBias: attentionBias, outputBias: attentionBias, rotary: rotary),
        NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon),
        .gated(hidden: hidden, width: width, activation, bias: mlpBias))
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
  }
}
