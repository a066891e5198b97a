import Foundation
import NibbleTensor

extension Family {
  /// BLOOM: ALiBi, a norm of the embedding, and query, key and value interleaved per head in one
  /// linear. Source: arXiv 2211.05100; transformers `modeling_bloom.py`.
  static let bloom = Family(
    "BLOOM", modelTypes: ["bloom"],
    harmlessKeys: [
      "attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion",
      "offset_alibi", "skip_bias_add", "skip_bias_add_qkv", "slow_but_exact", "unk_token_id",
    ]
  ) { (fields) throws(ModelError) in
    let prefix = fields.prefix(["transformer.", ""], of: "word_embeddings.weight")
    let hidden = try fields.size(anyOf: ["hidden_size", "n_embed"])
    let count = try fields.blockCount(["n_layer", "num_hidden_layers"])
    let epsilon = try fields.epsilon("layer_norm_epsilon", default: 1e-5)
    let addsToNormed = try fields.flag("apply_residual_connection_post_layernorm")
    let heads = try fields.size(anyOf: ["n_head", "num_attention_heads"], atMost: 65_536)
    guard hidden.isMultiple(of: heads), (hidden / heads).isMultiple(of: 2) else {
      throw fields.bad("n_head", "\(heads) heads do not divide hidden_size \(hidden) evenly")
    }
    let core = Attention(
      heads: heads, keyHeads: heads, headSize: hidden / heads, slopes: alibiSlopes(heads: heads))
    func norm(_ path: String) -> NormShape {
      NormShape(path, width: hidden, kind: .layer, epsilon: epsilon, hasBias: true)
    }
    let blocks = (0..<count).map { index in
      var block = BlockShape.preNorm(
        "\(prefix)h.\(index)", norm("input_layernorm"),
        .fused(
          "self_attention", core, hidden: hidden, input: "query_key_value", output: "dense",
          rows: .perKeyHead, inputBias: true, outputBias: true, rotary: nil),
        norm("post_attention_layernorm"),
        .plain(
          "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", hidden: hidden, width: 4 * hidden, .geluTanh,
          bias: true))
      block.addsToNormed = addsToNormed
      return block
    }
    var shape = try fields.decoder(
      hidden: hidden, context: 2048, blocks: blocks, finalNorm: norm(prefix + "ln_f"),
      tiesHead: true, embedding: prefix + "word_embeddings", blockPrefix: prefix + "h.")
    shape.embedding.norm = norm(prefix + "word_embeddings_layernorm")
    return shape
  }

  /// ALiBi slopes: `2^(-8 i / p)` for `i = 1...p`, with p the largest power of two up to `heads`.
  /// The remaining heads use every second slope of `2 p` heads. Source: ALiBi, arXiv 2108.12409, as
  /// BLOOM builds it.
  private static func alibiSlopes(heads: Int) -> [Float] {
    var power = 1
    while 2 * power <= heads { power *= 2 }
    let first = (1...power).map { Float(exp2(-8 * Double($0) / Double(power))) }
    let rest = (0..<heads - power).map {
      Float(exp2(-8 * Double(2 * $0 + 1) / Double(2 * power)))
    }
    return first + rest
  }
}
