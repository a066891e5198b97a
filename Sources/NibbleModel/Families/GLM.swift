import NibbleFormats
import NibbleTensor

extension Family {
  /// GLM-4: half of each head rotates, in pairs of neighbouring channels. `glm4` also has norms
  /// after the branches. Source: transformers `modeling_glm.py`, `modeling_glm4.py`.
  static let glm = Family("GLM", modelTypes: ["glm", "glm4"]) { (fields) throws(ModelError) in
    let normsResults = fields["model_type"] == "glm4"
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden, headSize: 128)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1.5625e-7)
    let context = try fields.optionalSize("max_position_embeddings") ?? 131_072
    var rotary = try fields.rotary(headSize: core.headSize, context: context, share: 0.5)
    rotary.isInterleaved = true
    let bias = try fields.flag("attention_bias", default: true)
    let activation = try fields.activation("hidden_act", default: "silu")
    func norm(_ path: String) -> NormShape {
      NormShape(path, width: hidden, epsilon: epsilon)
    }
    let blocks = (0..<count).map { index in
      BlockShape(
        "model.layers.\(index)", .sequential,
        [
          BlockShape.Branch(
            before: norm("input_layernorm"),
            .attention(.split(core, hidden: hidden, inputBias: bias, rotary: rotary)),
            after: normsResults ? norm("post_self_attn_layernorm") : nil),
          BlockShape.Branch(
            before: norm("post_attention_layernorm"),
            .feedForward(.fusedGated(hidden: hidden, width: width, activation)),
            after: normsResults ? norm("post_mlp_layernorm") : nil),
        ])
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks, finalNorm: norm("model.norm"))
  }
}
