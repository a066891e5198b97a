import NibbleFormats
import NibbleTensor

extension Family {
  /// gpt-oss: attention sinks, a sliding window in every second block, and experts that clamp large
  /// values. One tensor stacks all experts. Source: transformers `modeling_gpt_oss.py`.
  static let gptOSS = Family(
    "gpt-oss", modelTypes: ["gpt_oss"],
    // The experts have a fixed activation; the other two keys repeat `num_experts_per_tok` and
    // `original_max_position_embeddings`.
    harmlessKeys: ["hidden_act", "experts_per_token", "initial_context_length"]
  ) { (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let width = try fields.size("intermediate_size")
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden, headSize: 64)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-5)
    let context = try fields.optionalSize("max_position_embeddings") ?? 131_072
    let rotary = try fields.rotary(
      headSize: core.headSize, context: context, theta: 150_000,
      scaling: [
        "rope_type": "yarn", "factor": 32, "original_max_position_embeddings": 4096,
        "beta_fast": 32, "beta_slow": 1, "truncate": false,
      ])
    let bias = try fields.flag("attention_bias", default: true)
    let window = try fields.optionalSize("sliding_window") ?? 128
    let slides = try fields.slides(blocks: count) { $0.isMultiple(of: 2) }
    let experts = try fields.experts(
      ["num_local_experts", "num_experts"], default: 128, chosen: 4, blocks: count)
    let clamp = FeedForwardShape.Clamp(
      limit: Float(try fields.optionalNumber("swiglu_limit", in: 1e-6...1e9) ?? 7),
      slope: Float(try fields.optionalNumber("swiglu_alpha", in: 1e-6...1e9) ?? 1.702))
    let body = ExpertsShape(
      router: .router("mlp.router", experts: experts.count, hidden: hidden, bias: true),
      chosen: experts.chosen, .softmaxOfChosen,
      units: (0..<experts.count).map {
        gptOSSUnit($0, of: experts.count, hidden: hidden, width: width, clamp)
      })
    let blocks = (0..<count).map { index in
      var core = core
      if slides[index] { core.window = window }
      var attention = AttentionShape.split(
        core, hidden: hidden, inputBias: bias, outputBias: bias, rotary: rotary)
      attention.sinks = "self_attn.sinks"
      return BlockShape.preNorm(
        "model.layers.\(index)", NormShape("input_layernorm", width: hidden, epsilon: epsilon),
        attention, NormShape("post_attention_layernorm", width: hidden, epsilon: epsilon),
        .experts(body))
    }
    return try fields.decoder(
      hidden: hidden, context: context, blocks: blocks,
      finalNorm: NormShape("model.norm", width: hidden, epsilon: epsilon))
  }

  /// One expert. The outputs of its stacked tensor alternate between gate and up.
  private static func gptOSSUnit(
    _ expert: Int, of experts: Int, hidden: Int, width: Int, _ clamp: FeedForwardShape.Clamp
  ) -> FeedForwardShape {
    func linear(
      _ role: Role, _ tensor: String, outputs: Int, inputs: Int, stacked: Int, first: Int
    ) -> LinearShape {
      var linear = LinearShape(
        role, "mlp.experts.\(expert).\(role.rawValue)_proj", outputs: outputs, inputs: inputs,
        bias: true)
      linear.isTransposed = true
      linear.stack = LinearShape.Stack(
        "mlp.experts.\(tensor)", bias: "mlp.experts.\(tensor)_bias", expert: expert, of: experts,
        outputs: stacked, first: first, step: stacked / outputs)
      return linear
    }
    func half(_ role: Role, first: Int) -> LinearShape {
      linear(
        role, "gate_up_proj", outputs: width, inputs: hidden, stacked: 2 * width, first: first)
    }
    var unit = FeedForwardShape(
      .silu, isGated: true, inputs: [half(.gate, first: 0), half(.up, first: 1)],
      down: linear(
        .down, "down_proj", outputs: hidden, inputs: width, stacked: hidden, first: 0))
    unit.clamp = clamp
    return unit
  }
}
