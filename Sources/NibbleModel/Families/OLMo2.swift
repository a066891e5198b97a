import NibbleFormats
import NibbleTensor

extension Family {
  /// OLMo 2 and 3: norms after the branches, and norms over all queries and over all keys. In OLMo
  /// 3, three of four blocks have a sliding window. Source: arXiv 2501.00656; transformers
  /// `modeling_olmo3.py`.
  static let olmo2 = Family("OLMo 2", modelTypes: ["olmo2", "olmo3"]) {
    (fields) throws(ModelError) in
    let isThird = fields["model_type"] == "olmo3"
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-5)
    let context = try fields.optionalSize("max_position_embeddings") ?? 2048
    let theta = isThird ? 500_000.0 : 10_000
    let full = try fields.rotary(
      headSize: core.headSize, context: context, theta: theta, layerType: "full_attention")
    // A `rope_theta` outside the rotary object applies only to blocks without a window.
    let sliding = try fields.rotary(
      headSize: core.headSize, context: context, theta: theta,
      thetaKey: "sliding_rope_theta", layerType: "sliding_attention", scales: false)
    let bias = try fields.flag("attention_bias")
    let activation = try fields.activation("hidden_act", default: "silu")
    let window = isThird ? try fields.optionalSize("sliding_window") ?? 4096 : nil
    let slides =
      isThird
      ? try fields.slides(blocks: count) { !($0 + 1).isMultiple(of: 4) }
      : [Bool](repeating: false, count: count)
    let blocks = (0..<count).map { index in
      var core = core
      if slides[index] { core.window = window }
      var attention = AttentionShape.split(
        core, hidden: hidden, inputBias: bias, outputBias: bias,
        rotary: slides[index] ? sliding : full)
      attention.queryNorm = AttentionShape.HeadNorm(
        NormShape("self_attn.q_norm", width: core.queryWidth, epsilon: epsilon), .all)
      attention.keyNorm = AttentionShape.HeadNorm(
        NormShape("self_attn.k_norm", width: core.keyWidth, epsilon: epsilon), .all)
      return BlockShape(
        "model.layers.\(index)", .sequential,
        [
          BlockShape.Branch(
            before: nil, .attention(attention),
            after: NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon)),
          BlockShape.Branch(
            before: nil, .feedForward(.gated(hidden: hidden, width: width, activation)),
            after: NormShape("post_feedforward_layernorm", width: hidden, epsilon: epsilon)),
        ])
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
  }
}
