import NibbleFormats
import NibbleTensor

extension Family {
  /// InternLM 7B and 20B: Llama's block with biases in the attention linears. Source: the remote
  /// code of InternLM-20B.
  static let internLM = Family(
    "InternLM", modelTypes: ["internlm"], harmlessKeys: ["rope_theta", "num_key_value_heads"]
  ) { (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden, isGrouped: false)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-6)
    let context = try fields.optionalSize("max_position_embeddings") ?? 2048
    let bias = try fields.flag("bias", default: true)
    let activation = try fields.activation("hidden_act", default: "silu")
    // `rotary` is a key of this family only.
    let object = fields["rotary"]
    var rotary = RotaryShape(
      dimension: core.headSize, theta: object?["base"]?.double ?? 10_000, context: context)
    guard rotary.theta > 1, rotary.theta <= 1e15 else {
      throw fields.bad("rotary.base", "is \(rotary.theta); a number above 1 is needed")
    }
    switch object?["type"]?.string ?? "dynamic" {
    case "origin": break
    case "dynamic":
      let factor = object?["scaling_factor"]?.double ?? 1
      guard factor > 0, factor.isFinite else {
        throw fields.bad("rotary.scaling_factor", "is \(factor); a number above zero is needed")
      }
      rotary.scaling = .dynamic(factor: factor)
    case let kind:
      throw fields.bad("rotary.type", "is \"\(shown(kind))\"; origin and dynamic are known")
    }
    let blocks = (0..<count).map { index in
      BlockShape.preNorm(
        "model.layers.\(index)", NormShape("input_layernorm", width: hidden, epsilon: epsilon),
        .split(core, hidden: hidden, inputBias: bias, outputBias: bias, rotary: rotary),
        NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon),
        .gated(hidden: hidden, width: width, activation))
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
  }

  /// InternLM2 and 2.5: one fused linear for query, key and value, ordered per key head. Source:
  /// the remote code of InternLM2-7B.
  static let internLM2 = Family("InternLM2", modelTypes: ["internlm2"]) {
    (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-6)
    let context = try fields.optionalSize("max_position_embeddings") ?? 2048
    let rotary = try fields.rotary(headSize: core.headSize, context: context)
    let bias = try fields.flag("bias", default: true)
    let activation = try fields.activation("hidden_act", default: "silu")
    let blocks = (0..<count).map { index in
      BlockShape.preNorm(
        "model.layers.\(index)", NormShape("attention_norm", width: hidden, epsilon: epsilon),
        .fused(
          "attention", core, hidden: hidden, input: "wqkv", output: "wo", rows: .perKeyHead,
          inputBias: bias, outputBias: bias, rotary: rotary),
        NormShape("ffn_norm", width: hidden, epsilon: epsilon),
        .gated(
          "feed_forward", hidden: hidden, width: width, activation, names: ["w1", "w3", "w2"]))
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon),
      embedding: "model.tok_embeddings", head: "output")
  }

  /// InternLM3: Llama's block with a head size of 128. `qkv_bias` is for query, key and value;
  /// `bias` for the other linears.
  static let internLM3 = Family("InternLM3", modelTypes: ["internlm3"]) {
    (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden, headSize: 128)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-5)
    let context = try fields.optionalSize("max_position_embeddings") ?? 32_768
    let rotary = try fields.rotary(headSize: core.headSize, context: context)
    let inputBias = try fields.flag("qkv_bias")
    let bias = try fields.flag("bias")
    let activation = try fields.activation("hidden_act", default: "silu")
    let blocks = (0..<count).map { index in
      BlockShape.preNorm(
        "model.layers.\(index)", NormShape("input_layernorm", width: hidden, epsilon: epsilon),
        .split(core, hidden: hidden, inputBias: inputBias, outputBias: bias, rotary: rotary),
        NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon),
        .gated(hidden: hidden, width: width, activation, bias: bias))
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
  }
}
