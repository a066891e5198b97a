import NibbleFormats
import NibbleTensor

extension Family {
  /// Gemma 2: norms with factors `1 + w` before and after each branch, soft caps on attention
  /// scores and logits, a sliding window in every second block. Source: arXiv 2408.00118;
  /// transformers `modeling_gemma2.py`.
  static let gemma2 = Family(
    "Gemma 2", modelTypes: ["gemma2"], harmlessKeys: ["hidden_act", "cache_implementation"]
  ) { (fields) throws(ModelError) in
    try gemma(fields, version: 2)
  }

  /// Gemma 3, the text model: norms of queries and keys. Five of six blocks have a sliding window
  /// and their own rotary frequencies. Source: arXiv 2503.19786; transformers `modeling_gemma3.py`.
  static let gemma3 = Family(
    "Gemma 3", modelTypes: ["gemma3_text"],
    // `attn_logit_softcapping` has no effect: Gemma 3's attention does not apply it.
    harmlessKeys: ["hidden_act", "cache_implementation", "attn_logit_softcapping"]
  ) { (fields) throws(ModelError) in
    try gemma(fields, version: 3)
  }

  private static func gemma(
    _ fields: ConfigFields, version: Int
  ) throws(ModelError) -> DecoderShape {
    let hidden = try fields.optionalSize("hidden_size") ?? 2304
    let width = try fields.optionalSize("intermediate_size") ?? 9216
    let count = try fields.blockCount()
    var core = try gemmaHeads(fields)
    let scalar =
      try fields.optionalNumber("query_pre_attn_scalar", in: 1e-6...1e9) ?? 256
    core.scale = Float(1 / scalar.squareRoot())
    if version == 2 {
      core.softCap = try fields.optionalNumber("attn_logit_softcapping", in: 1e-6...1e9).map {
        Float($0)
      }
    }
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-6)
    let context =
      try fields.optionalSize("max_position_embeddings") ?? (version == 2 ? 8192 : 131_072)
    let window = try fields.optionalSize("sliding_window") ?? 4096
    let bias = try fields.flag("attention_bias")
    let activation = try fields.activation("hidden_activation", default: "gelu_pytorch_tanh")
    fields.pass("_sliding_window_pattern")
    let pattern =
      version == 2 ? 2 : try fields.optionalSize("sliding_window_pattern") ?? 6
    let slides = try fields.slides(blocks: count) { !($0 + 1).isMultiple(of: pattern) }
    let full = try fields.rotary(
      headSize: core.headSize, context: context, theta: version == 2 ? 10_000 : 1_000_000,
      layerType: "full_attention")
    let sliding =
      version == 2
      ? full
      : try fields.rotary(
        headSize: core.headSize, context: context, thetaKey: "rope_local_base_freq",
        layerType: "sliding_attention", scales: false)
    func norm(_ path: String, _ width: Int) -> NormShape {
      NormShape(path, width: width, epsilon: epsilon, offset: 1)
    }
    let blocks = (0..<count).map { index in
      var core = core
      if slides[index] { core.window = window }
      var attention = AttentionShape.split(
        core, hidden: hidden, inputBias: bias, outputBias: bias,
        rotary: slides[index] ? sliding : full)
      if version == 3 {
        attention.queryNorm = AttentionShape.HeadNorm(
          norm("self_attn.q_norm", core.headSize), .head)
        attention.keyNorm = AttentionShape.HeadNorm(norm("self_attn.k_norm", core.headSize), .head)
      }
      return BlockShape(
        "model.layers.\(index)", .sequential,
        [
          BlockShape.Branch(
            before: norm("input_layernorm", hidden), .attention(attention),
            after: norm("post_attention_layernorm", hidden)),
          BlockShape.Branch(
            before: norm("pre_feedforward_layernorm", hidden),
            .feedForward(.gated(hidden: hidden, width: width, activation)),
            after: norm("post_feedforward_layernorm", hidden)),
        ])
    }
    var shape = try fields.decoder(
      hidden: hidden, context: context, blocks: blocks, finalNorm: norm("model.norm", hidden),
      tiesHead: true)
    shape.embedding.scale = Float(hidden).squareRoot()
    shape.head.softCap = try fields.optionalNumber("final_logit_softcapping", in: 1e-6...1e9).map {
      Float($0)
    }
    return shape
  }

  /// The heads; published configs omit fields that have the family's default.
  private static func gemmaHeads(_ fields: ConfigFields) throws(ModelError) -> Attention {
    let heads = try fields.optionalSize("num_attention_heads", atMost: 65_536) ?? 8
    let keyHeads = try fields.optionalSize("num_key_value_heads") ?? 4
    guard heads.isMultiple(of: keyHeads) else {
      throw fields.bad("num_key_value_heads", "does not divide \(heads) heads")
    }
    let headSize = try fields.optionalSize("head_dim") ?? 256
    guard headSize.isMultiple(of: 2) else {
      throw fields.bad("head_dim", "\(headSize) is odd; an even size is needed")
    }
    return Attention(heads: heads, keyHeads: keyHeads, headSize: headSize)
  }
}
