import NibbleTensor

extension Family {
  /// GPT-NeoX and Pythia: parallel branches with separate norms, rotary embedding of a quarter of
  /// each head. Source: transformers `modeling_gpt_neox.py`.
  static let gptNeoX = Family(
    "GPT-NeoX", modelTypes: ["gpt_neox"],
    harmlessTensors: ["attention.bias", "attention.masked_bias"]
  ) { (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden, isGrouped: false)
    let epsilon = try fields.epsilon("layer_norm_eps", default: 1e-5)
    let context = try fields.optionalSize("max_position_embeddings") ?? 2048
    // Old configs have the keys `rotary_pct` and `rotary_emb_base`.
    let share = try fields.optionalNumber("rotary_pct", in: 0...1) ?? 0.25
    let theta = try fields.optionalNumber("rotary_emb_base", in: 1...1e15) ?? 10_000
    let rotary = try fields.rotary(
      headSize: core.headSize, context: context, theta: theta, share: share)
    let isParallel = try fields.flag("use_parallel_residual", default: true)
    let bias = try fields.flag("attention_bias", default: true)
    let activation = try fields.activation("hidden_act", default: "gelu")
    func norm(_ path: String) -> NormShape {
      NormShape(path, width: hidden, kind: .layer, epsilon: epsilon, hasBias: true)
    }
    let blocks = (0..<count).map { index in
      var block = BlockShape.preNorm(
        "gpt_neox.layers.\(index)", norm("input_layernorm"),
        .fused(
          "attention", core, hidden: hidden, input: "query_key_value", output: "dense",
          rows: .perKeyHead, inputBias: bias, outputBias: bias, rotary: rotary),
        norm("post_attention_layernorm"),
        .plain(
          "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", hidden: hidden, width: width, activation,
          bias: true))
      block.residual = isParallel ? .parallel : .sequential
      return block
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: norm("gpt_neox.final_layer_norm"), embedding: "gpt_neox.embed_in",
      blockPrefix: "gpt_neox.layers.", head: "embed_out")
  }
}
