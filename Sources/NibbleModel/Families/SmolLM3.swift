import NibbleTensor

extension Family {
  /// SmolLM3: Llama's block. Every fourth block has no rotary embedding. Source: transformers
  /// `modeling_smollm3.py`.
  static let smolLM3 = Family(
    "SmolLM3", modelTypes: ["smollm3"], harmlessKeys: ["max_window_layers"]
  ) { (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-6)
    let context = try fields.optionalSize("max_position_embeddings") ?? 32_768
    let rotary = try fields.rotary(headSize: core.headSize, context: context, theta: 2_000_000)
    let attentionBias = try fields.flag("attention_bias")
    let mlpBias = try fields.flag("mlp_bias")
    let activation = try fields.activation("hidden_act", default: "silu")
    let interval = try fields.optionalSize("no_rope_layer_interval") ?? 4
    let rotates =
      try fields.integers("no_rope_layers", count: count)?.map { $0 != 0 }
      ?? (0..<count).map { !($0 + 1).isMultiple(of: interval) }
    let isWindowed = try fields.flag("use_sliding_window")
    let window = try fields.optionalSize("sliding_window")
    let slides = try fields.slides(blocks: count) { isWindowed && window != nil && !rotates[$0] }
    let blocks = (0..<count).map { index in
      var core = core
      if isWindowed, slides[index] { core.window = window }
      return BlockShape.preNorm(
        "model.layers.\(index)", NormShape("input_layernorm", width: hidden, epsilon: epsilon),
        .split(
          core, hidden: hidden, inputBias: attentionBias, outputBias: attentionBias,
          rotary: rotates[index] ? rotary : nil),
        NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon),
        .gated(hidden: hidden, width: width, activation, bias: mlpBias))
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon), tiesHead: true)
  }
}
