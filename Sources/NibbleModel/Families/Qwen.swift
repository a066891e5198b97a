import NibbleFormats
import NibbleTensor

extension Family {
  /// Qwen2 and Qwen2.5: Llama's block with biases on query, key and value. Source: transformers
  /// `modeling_qwen2.py`.
  static let qwen2 = Family("Qwen2", modelTypes: ["qwen2"]) { (fields) throws(ModelError) in
    try qwen(fields, headSize: nil, normsHeads: false)
  }

  /// Qwen3: norms of queries and keys instead of the biases. Source: transformers `modeling_qwen3.py`.
  static let qwen3 = Family("Qwen3", modelTypes: ["qwen3"]) { (fields) throws(ModelError) in
    try qwen(fields, headSize: 128, normsHeads: true)
  }

  private static func qwen(
    _ fields: ConfigFields, headSize: Int?, normsHeads: Bool
  ) throws(ModelError) -> DecoderShape {
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden, headSize: headSize)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-6)
    let context = try fields.optionalSize("max_position_embeddings") ?? 32_768
    let rotary = try fields.rotary(headSize: core.headSize, context: context)
    let bias = normsHeads ? try fields.flag("attention_bias") : true
    let activation = try fields.activation("hidden_act", default: "silu")
    // Configs give a window that is switched off.
    let isWindowed = try fields.flag("use_sliding_window")
    let window = try fields.optionalSize("sliding_window") ?? 4096
    let firstSliding = fields["max_window_layers"]?.int ?? 28
    let slides = try fields.slides(blocks: count) { $0 >= firstSliding }
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
        .gated(hidden: hidden, width: width, activation))
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
  }
}
