import NibbleTensor

extension Family {
  /// StableLM 2 and 3B: layer norms, rotary embedding of a quarter of each head, sequential or
  /// parallel branches. Source: transformers `modeling_stablelm.py`.
  static let stableLM = Family("StableLM", modelTypes: ["stablelm", "stablelm_epoch"]) {
    (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden)
    let epsilon = try fields.epsilon("layer_norm_eps", default: 1e-5)
    let context = try fields.optionalSize("max_position_embeddings") ?? 4096
    let share = try fields.optionalNumber("rope_pct", in: 0...1) ?? 0.25
    let rotary = try fields.rotary(headSize: core.headSize, context: context, share: share)
    let bias = try fields.flag("use_qkv_bias")
    let activation = try fields.activation("hidden_act", default: "silu")
    let normsHeads = try fields.flag("qk_layernorm")
    let isParallel = try fields.flag("use_parallel_residual")
    func norm(_ path: String) -> NormShape {
      NormShape(path, width: hidden, kind: .layer, epsilon: epsilon, hasBias: true)
    }
    let blocks = (0..<count).map { index in
      var attention = AttentionShape.split(
        core, hidden: hidden, inputBias: bias, rotary: rotary)
      if normsHeads {
        func own(_ name: String) -> AttentionShape.HeadNorm {
          AttentionShape.HeadNorm(
            NormShape(
              "self_attn.\(name).norms", width: core.headSize, kind: .layer, epsilon: epsilon),
            .ownModule)
        }
        (attention.queryNorm, attention.keyNorm) = (own("q_layernorm"), own("k_layernorm"))
      }
      let first = norm("input_layernorm")
      return BlockShape(
        "model.layers.\(index)", isParallel ? .parallel : .sequential,
        [
          BlockShape.Branch(before: first, .attention(attention)),
          BlockShape.Branch(
            before: isParallel ? first : norm("post_attention_layernorm"),
            .feedForward(.gated(hidden: hidden, width: width, activation))),
        ])
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks, finalNorm: norm("model.norm"))
  }
}
