import NibbleFormats
import NibbleTensor

extension Family {
  /// Qwen3.5 and Qwen3.6: three of four blocks have a gated delta net in place of attention. The
  /// result of attention is gated, and a quarter of each head rotates. Source: transformers
  /// `modeling_qwen3_5.py`.
  static let qwen35 = Family(
    "Qwen3.5", modelTypes: ["qwen3_5_text"], harmlessKeys: qwen35Harmless
  ) { (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    let activation = try fields.activation("hidden_act", default: "silu")
    return try qwen35(
      fields, hidden,
      .feedForward(
        .gated(hidden: hidden, width: try fields.size("intermediate_size"), activation)))
  }

  /// Qwen3.5-MoE and Qwen3.6-MoE: Qwen3.5's blocks with a mixture of experts and a shared expert.
  /// Source: transformers `modeling_qwen3_5_moe.py`.
  static let qwen35MoE = Family(
    "Qwen3.5-MoE", modelTypes: ["qwen3_5_moe_text"],
    harmlessKeys: qwen35Harmless.union(["intermediate_size"])
  ) { (fields) throws(ModelError) in
    let hidden = try fields.size("hidden_size")
    return try qwen35(fields, hidden, .experts(try qwen35Experts(fields, hidden)))
  }

  /// The state is always float32. The block that drafts tokens is not run.
  private static let qwen35Harmless: Set = [
    "mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings",
  ]

  private static func qwen35(
    _ fields: ConfigFields, _ hidden: Int, _ body: BlockShape.Branch.Body
  ) throws(ModelError) -> DecoderShape {
    let count = try fields.blockCount()
    let core = try fields.attention(hidden: hidden, headSize: 256)
    let epsilon = try fields.epsilon("rms_norm_eps", default: 1e-6)
    let context = try fields.optionalSize("max_position_embeddings") ?? 32_768
    let rotary = try fields.rotary(headSize: core.headSize, context: context, share: 0.25)
    // The sections divide the channels among the axes of images. Positions of text are the same on
    // all axes.
    for object in ConfigKeys.rotaryObjects {
      for key in ["mrope_section", "mrope_interleaved"] { fields.pass("\(object).\(key)") }
    }
    guard try fields.flag("attn_output_gate", default: true) else {
      throw fields.bad("attn_output_gate", "is false; blocks of Qwen3.5 have a gate")
    }
    let bias = try fields.flag("attention_bias")
    let net = try qwen35Net(fields)
    let interval = try fields.optionalSize("full_attention_interval") ?? 4
    let types =
      try fields.layerTypes(blocks: count, known: ["linear_attention", "full_attention"])
      ?? (0..<count).map {
        ($0 + 1).isMultiple(of: interval) ? "full_attention" : "linear_attention"
      }
    func norm(_ path: String, _ width: Int) -> NormShape {
      NormShape(path, width: width, epsilon: epsilon, offset: 1)
    }
    var attention = AttentionShape.split(
      core, hidden: hidden, inputBias: bias, outputBias: bias, rotary: rotary
    ).gated
    attention.queryNorm = AttentionShape.HeadNorm(norm("self_attn.q_norm", core.headSize), .head)
    attention.keyNorm = AttentionShape.HeadNorm(norm("self_attn.k_norm", core.headSize), .head)
    let mixer = MixerShape(net, path: "linear_attn", hidden: hidden, epsilon: epsilon)
    let blocks = (0..<count).map { index in
      BlockShape(
        "model.layers.\(index)", .sequential,
        [
          BlockShape.Branch(
            before: norm("input_layernorm", hidden),
            types[index] == "full_attention" ? .attention(attention) : .mixer(mixer)),
          BlockShape.Branch(before: norm("post_attention_layernorm", hidden), body),
        ])
    }
    var shape = try fields.decoder(
      hidden: hidden, context: context, blocks: blocks, finalNorm: norm("model.norm", hidden))
    shape.towers = ["mtp."]
    return shape
  }

  private static func qwen35Net(_ fields: ConfigFields) throws(ModelError) -> DeltaNet {
    // The state of a head has as many values as the product of its two sizes.
    func size(_ name: String, default value: Int) throws(ModelError) -> Int {
      try fields.optionalSize(name, atMost: 4096) ?? value
    }
    let net = DeltaNet(
      keyHeads: try size("linear_num_key_heads", default: 16),
      valueHeads: try size("linear_num_value_heads", default: 32),
      keySize: try size("linear_key_head_dim", default: 128),
      valueSize: try size("linear_value_head_dim", default: 128),
      kernel: try size("linear_conv_kernel_dim", default: 4))
    guard net.valueHeads.isMultiple(of: net.keyHeads) else {
      throw fields.bad(
        "linear_num_value_heads", "\(net.valueHeads) is not a multiple of \(net.keyHeads) key heads"
      )
    }
    return net
  }

  /// Published checkpoints stack all experts of a block; transformers saves one tensor per expert.
  private static func qwen35Experts(
    _ fields: ConfigFields, _ hidden: Int
  ) throws(ModelError) -> ExpertsShape {
    let experts = try fields.experts(
      ["num_experts"], default: 256, chosen: 8, blocks: try fields.blockCount())
    let width = try fields.optionalSize("moe_intermediate_size") ?? 512
    let activation = try fields.activation("hidden_act", default: "silu")
    let shares = ExpertsShape.Shares.softmaxOfAll(normalizes: true)
    guard try fields.flag("norm_topk_prob", default: true) else {
      throw fields.bad("norm_topk_prob", "is false; Qwen3.5 normalizes the shares of experts")
    }
    guard try fields.integers("mlp_only_layers").isEmpty else {
      throw fields.bad("mlp_only_layers", "names blocks; all blocks of Qwen3.5-MoE have experts")
    }
    var body =
      fields.stores("model.layers.0.mlp.experts.gate_up_proj")
      ? ExpertsShape.stacked(
        "mlp.experts", router: .router("mlp.gate", experts: experts.count, hidden: hidden),
        hidden: hidden, width: width, count: experts.count, chosen: experts.chosen, shares,
        activation)
      : ExpertsShape.gated(
        "mlp", hidden: hidden, width: width, count: experts.count, chosen: experts.chosen, shares,
        activation)
    body.shared = ExpertsShape.Shared(
      .gated(
        "mlp.shared_expert", hidden: hidden,
        width: try fields.optionalSize("shared_expert_intermediate_size") ?? 512, activation),
      gate: .router("mlp.shared_expert_gate", experts: 1, hidden: hidden))
    return body
  }
}
