import NibbleFormats
import NibbleTensor

extension Family {
  /// Command-R and R7B, Aya: parallel branches with one norm; rotary embedding in pairs of
  /// neighbouring channels. In Cohere 2 only the blocks with a sliding window rotate. Source:
  /// transformers `modeling_cohere.py`, `modeling_cohere2.py`.
  static let cohere = Family(
    "Cohere", modelTypes: ["cohere", "cohere2"],
    // Keys that describe what the family always does.
    harmlessKeys: [
      "cache_implementation", "order_of_interleaved_layers", "position_embedding_type",
      "use_embedding_sharing", "use_gated_activation", "use_parallel_block",
      "use_parallel_embedding",
    ]
  ) { (fields) throws(ModelError) in
    let isSecond = fields["model_type"] == "cohere2"
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden)
    let epsilon = try fields.epsilon("layer_norm_eps", default: 1e-5)
    let context = try fields.optionalSize("max_position_embeddings") ?? 8192
    var rotary = try fields.rotary(
      headSize: core.headSize, context: context, theta: isSecond ? 10_000 : 500_000)
    rotary.isInterleaved = true
    let bias = try fields.flag("attention_bias")
    let activation = try fields.activation("hidden_act", default: "silu")
    let normsHeads = isSecond ? false : try fields.flag("use_qk_norm")
    let window = isSecond ? try fields.optionalSize("sliding_window") : nil
    let pattern = isSecond ? try fields.optionalSize("sliding_window_pattern") ?? 4 : 1
    fields.pass("_sliding_window_pattern")
    let slides =
      isSecond
      ? try fields.slides(blocks: count) { !($0 + 1).isMultiple(of: pattern) }
      : [Bool](repeating: false, count: count)
    let norm = NormShape("input_layernorm", width: hidden, kind: .layer, epsilon: epsilon)
    let blocks = (0..<count).map { index in
      var core = core
      if slides[index] { core.window = window }
      let rotates = !isSecond || window != nil && slides[index]
      var attention = AttentionShape.split(
        core, hidden: hidden, inputBias: bias, outputBias: bias, rotary: rotates ? rotary : nil)
      if normsHeads {
        func own(_ name: String) -> AttentionShape.HeadNorm {
          AttentionShape.HeadNorm(
            NormShape(
              "self_attn.\(name)", width: core.headSize, kind: .layer, epsilon: epsilon), .ownHead)
        }
        (attention.queryNorm, attention.keyNorm) = (own("q_norm"), own("k_norm"))
      }
      return BlockShape(
        "model.layers.\(index)", .parallel,
        [
          BlockShape.Branch(before: norm, .attention(attention)),
          BlockShape.Branch(
            before: norm, .feedForward(.gated(hidden: hidden, width: width, activation))),
        ])
    }
    var shape = try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, kind: .layer, epsilon: epsilon),
      tiesHead: true)
    shape.head.scale = Float(try fields.optionalNumber("logit_scale", in: 1e-9...1e9) ?? 0.0625)
    return shape
  }
}
