import NibbleTensor

extension Family {
  /// OPT: layer norms, learned positions, a feed-forward unit without a gate. Source: arXiv
  /// 2205.01068; transformers `modeling_opt.py`.
  static let opt = Family("OPT", modelTypes: ["opt"], harmlessKeys: ["init_std"]) {
    (fields) throws(ModelError) in
    let prefix = fields.prefix(["model.decoder.", "decoder."], of: "embed_tokens.weight")
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("ffn_dim")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden, isGrouped: false)
    let context = try fields.optionalSize("max_position_embeddings") ?? 2048
    let isPreNorm = try fields.flag("do_layer_norm_before", default: true)
    let bias = try fields.flag("enable_bias", default: true)
    let isAffine = try fields.flag("layer_norm_elementwise_affine", default: true)
    let removesFinalNorm = try fields.flag("_remove_final_layer_norm")
    let activation = try fields.activation("activation_function", default: "relu")
    func norm(_ path: String) -> NormShape {
      NormShape(
        path, width: hidden, kind: .layer, epsilon: 1e-5, hasWeight: isAffine, hasBias: isAffine)
    }
    let blocks = (0..<count).map { index in
      let first = norm("self_attn_layer_norm")
      let second = norm("final_layer_norm")
      let attention = AttentionShape.split(
        core, hidden: hidden, names: ["q_proj", "k_proj", "v_proj", "out_proj"], inputBias: bias,
        outputBias: bias, rotary: nil)
      let feedForward = FeedForwardShape.plain(
        "fc1", "fc2", hidden: hidden, width: width, activation, bias: bias)
      return BlockShape(
        "\(prefix)layers.\(index)", .sequential,
        [
          BlockShape.Branch(
            before: isPreNorm ? first : nil, .attention(attention), closing: isPreNorm ? nil : first
          ),
          BlockShape.Branch(
            before: isPreNorm ? second : nil, .feedForward(feedForward),
            closing: isPreNorm ? nil : second),
        ])
    }
    var shape = try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: isPreNorm && !removesFinalNorm ? norm(prefix + "final_layer_norm") : nil,
      tiesHead: true, embedding: prefix + "embed_tokens", blockPrefix: prefix + "layers.")
    shape.embedding.positions = EmbeddingShape.Positions(
      prefix + "embed_positions", offset: 2, rows: context + 2)
    let embedded = try fields.optionalSize("word_embed_proj_dim") ?? hidden
    if embedded != hidden {
      shape.embedding.width = embedded
      shape.embedding.projection = prefix + "project_in"
      shape.head.projection = prefix + "project_out"
    }
    return shape
  }
}
