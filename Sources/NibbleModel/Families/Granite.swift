import NibbleTensor

extension Family {
  /// Granite 3: Llama's block with four multipliers. Source: transformers `modeling_granite.py`.
  static let granite = Family("Granite", modelTypes: ["granite"]) { (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    var core = try fields.attention(hidden: hidden)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-6)
    let context = try fields.optionalSize("max_position_embeddings") ?? 2048
    let rotary = try fields.rotary(headSize: core.headSize, context: context)
    let attentionBias = try fields.flag("attention_bias")
    let mlpBias = try fields.flag("mlp_bias")
    let activation = try fields.activation("hidden_act", default: "silu")
    func multiplier(_ name: String) throws(ModelError) -> Float {
      Float(try fields.optionalNumber(name, in: 1e-9...1e9) ?? 1)
    }
    // A missing value means 1, not 1 / sqrt(d).
    core.scale = try multiplier("attention_multiplier")
    let residual = try multiplier("residual_multiplier")
    let blocks = (0..<count).map { index in
      BlockShape.preNorm(
        "model.layers.\(index)", NormShape("input_layernorm", width: hidden, epsilon: epsilon),
        .split(
          core, hidden: hidden, inputBias: attentionBias, outputBias: attentionBias, rotary: rotary),
        NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon),
        .gated(hidden: hidden, width: width, activation, bias: mlpBias), scale: residual)
    }
    var shape = try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
    shape.embedding.scale = try multiplier("embedding_multiplier")
    shape.head.scale = 1 / (try multiplier("logits_scaling"))
    return shape
  }
}
