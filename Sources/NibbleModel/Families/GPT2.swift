import NibbleTensor

extension Family {
  /// GPT-2: layer norms, learned positions, weights stored as `[inputs, outputs]`. Source:
  /// transformers `modeling_gpt2.py`.
  static let gpt2 = Family(
    "GPT-2", modelTypes: ["gpt2"],
    harmlessKeys: [
      "n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout",
      "summary_proj_to_labels", "summary_type", "summary_use_proj",
    ], harmlessTensors: ["attn.bias", "attn.masked_bias"]
  ) { (fields) throws(ModelError) in
    let prefix = fields.prefix(["transformer.", ""], of: "wte.weight")
    let hidden = try fields.size(anyOf: ["n_embd", "hidden_size"])
    let width = try fields.optionalSize("n_inner") ?? 4 * hidden
    let count = try fields.blockCount(["n_layer", "num_hidden_layers"])
    let context = try fields.optionalSize("n_positions") ?? 1024
    let epsilon = try fields.epsilon("layer_norm_epsilon", default: 1e-5)
    let activation = try fields.activation("activation_function", default: "gelu_new")
    let isScaled = try fields.flag("scale_attn_weights", default: true)
    let dividesByBlock = try fields.flag("scale_attn_by_inverse_layer_idx")
    let core = try fields.attention(hidden: hidden, heads: "n_head", isGrouped: false)
    func norm(_ path: String) -> NormShape {
      NormShape(path, width: hidden, kind: .layer, epsilon: epsilon, hasBias: true)
    }
    let blocks = (0..<count).map { index in
      var core = core
      if !isScaled { core.scale = 1 }
      if dividesByBlock { core.scale /= Float(index + 1) }
      return BlockShape.preNorm(
        "\(prefix)h.\(index)", norm("ln_1"),
        .fused(
          "attn", core, hidden: hidden, input: "c_attn", output: "c_proj", rows: .concatenated,
          inputBias: true, outputBias: true, isTransposed: true, rotary: nil),
        norm("ln_2"),
        .plain(
          "mlp.c_fc", "mlp.c_proj", hidden: hidden, width: width, activation, bias: true,
          isTransposed: true))
    }
    var shape = try fields.decoder(
      hidden: hidden, context: context, blocks: blocks, finalNorm: norm(prefix + "ln_f"),
      tiesHead: true, embedding: prefix + "wte", blockPrefix: prefix + "h.")
    shape.embedding.positions = EmbeddingShape.Positions(
      prefix + "wpe", offset: 0, rows: context)
    return shape
  }
}
