import NibbleFormats
import NibbleTensor

extension Family {
  /// Gemma 4, the text model: norms of queries, keys and values, and blocks of two head sizes. By
  /// its config, late blocks share the KV caches of earlier ones, keys are also values, each block
  /// reads inputs of its own, or a mixture of experts stands beside the feed-forward unit. Source:
  /// transformers `modeling_gemma4.py`.
  static let gemma4 = Family(
    "Gemma 4", modelTypes: ["gemma4_text"], harmlessKeys: ["hidden_act", "cache_implementation"]
  ) { (fields) throws(ModelError) in
    let sizes = try Gemma4Sizes(fields)
    let (hidden, count) = (sizes.hidden, sizes.blocks)
    let full = try fields.rotary(
      headSize: sizes.heads(of: count - 1).headSize, context: sizes.context, theta: 1_000_000,
      layerType: "full_attention",
      scaling: ["rope_type": "proportional", "partial_rotary_factor": 0.25])
    let sliding = try fields.rotary(
      headSize: sizes.slides.firstIndex(of: true).map { sizes.heads(of: $0).headSize }
        ?? sizes.core.headSize, context: sizes.context, layerType: "sliding_attention",
      scales: false)
    let carried = sizes.carried
    let experts = try sizes.experts(fields)
    let blocks = (0..<count).map { index in
      let shared = sizes.isShared(index)
      var attention = sizes.attention(
        index, rotary: sizes.slides[index] ? sliding : full)
      attention.carried = carried.keysAndValues[sizes.source(of: index)]
      var block = BlockShape(
        "model.layers.\(index)", .sequential,
        [
          BlockShape.Branch(
            before: sizes.norm("input_layernorm"), .attention(attention),
            after: sizes.norm("post_attention_layernorm"))
        ])
      let width = shared && sizes.doublesWidth ? 2 * sizes.width : sizes.width
      let unit = FeedForwardShape.gated(hidden: hidden, width: width, sizes.activation)
      let last = sizes.norm("post_feedforward_layernorm")
      let before = sizes.norm("pre_feedforward_layernorm")
      if let experts {
        block.branches += [
          BlockShape.Branch(
            before: before, .feedForward(unit), inner: sizes.norm("post_feedforward_layernorm_1"),
            joinsNext: true),
          BlockShape.Branch(
            before: sizes.norm("pre_feedforward_layernorm_2"), .experts(experts),
            inner: sizes.norm("post_feedforward_layernorm_2"), after: last),
        ]
      } else {
        block.branches.append(BlockShape.Branch(before: before, .feedForward(unit), after: last))
      }
      if sizes.inputWidth > 0 {
        block.branches.append(
          BlockShape.Branch(
            before: nil,
            .blockInput(
              BlockInputShape(
                gate: "per_layer_input_gate", output: "per_layer_projection", hidden: hidden,
                width: sizes.inputWidth, sizes.activation,
                columns: index * sizes.inputWidth..<(index + 1) * sizes.inputWidth)),
            after: sizes.norm("post_per_layer_input_norm")))
      }
      block.factor = "layer_scalar"
      if shared { block.unread = ["k_proj", "v_proj", "k_norm"].map { "self_attn.\($0).weight" } }
      return block
    }
    var shape = try fields.decoder(
      hidden: hidden, context: sizes.context, blocks: blocks,
      finalNorm: sizes.norm("model.norm"), tiesHead: true)
    shape.embedding.scale = Float(hidden).squareRoot()
    if sizes.inputWidth > 0 {
      shape.embedding.blockInputs = EmbeddingShape.BlockInputs(
        "model.embed_tokens_per_layer", rows: sizes.inputRows,
        projection: "model.per_layer_model_projection",
        norm: NormShape(
          "model.per_layer_projection_norm", width: sizes.inputWidth, epsilon: sizes.epsilon),
        blocks: count)
    }
    shape.carriedWidth = carried.width
    shape.head.softCap = try fields.optionalNumber("final_logit_softcapping", in: 1e-6...1e9).map {
      Float($0)
    }
    return shape
  }
}

/// The sizes of a Gemma 4 config, and which blocks have what.
private struct Gemma4Sizes {
  let hidden: Int
  let width: Int
  let blocks: Int
  /// The heads of blocks with a sliding window.
  let core: Attention
  /// Head size and number of key heads by block, where they are others.
  let others: [Int: (headSize: Int, keyHeads: Int)]
  let slides: [Bool]
  /// Blocks at the end that share KV caches.
  let sharing: Int
  let doublesWidth: Bool
  /// Whether blocks without a window have no projection of values.
  let valuesAreKeys: Bool
  let hasBias: Bool
  /// Width of the inputs that each block reads besides the states; 0 for none.
  let inputWidth: Int
  /// Rows of the table of these inputs.
  let inputRows: Int
  let context: Int
  let epsilon: Float
  let activation: Activation

  init(_ fields: ConfigFields) throws(ModelError) {
    hidden = try fields.optionalSize("hidden_size") ?? 2304
    width = try fields.optionalSize("intermediate_size") ?? 9216
    blocks = try fields.optionalSize("num_hidden_layers", atMost: 10_000) ?? 30
    epsilon = try fields.epsilon("rms_norm_eps", default: 1e-6)
    context = try fields.optionalSize("max_position_embeddings") ?? 131_072
    activation = try fields.activation("hidden_activation", default: "gelu_pytorch_tanh")
    hasBias = try fields.flag("attention_bias")
    doublesWidth = try fields.flag("use_double_wide_mlp")
    valuesAreKeys = try fields.flag("attention_k_eq_v")
    inputWidth =
      fields["hidden_size_per_layer_input"] == 0
      ? 0 : try fields.optionalSize("hidden_size_per_layer_input", atMost: 65_536) ?? 256
    inputRows = try fields.optionalSize("vocab_size_per_layer_input") ?? 262_144
    if let mask = fields["use_bidirectional_attention"], mask != "vision", mask != false {
      throw fields.bad(
        "use_bidirectional_attention", "is \(mask.text()); tokens of text see earlier ones only")
    }
    var core = Attention(
      heads: try fields.optionalSize("num_attention_heads", atMost: 65_536) ?? 8,
      keyHeads: try fields.optionalSize("num_key_value_heads", atMost: 65_536) ?? 4,
      headSize: try fields.optionalSize("head_dim", atMost: 65_536) ?? 256, scale: 1)
    core.window = try fields.optionalSize("sliding_window") ?? 512
    self.core = core
    var slides = try fields.slides(blocks: blocks) { !($0 + 1).isMultiple(of: 6) }
    // The reference makes the last block see everything, whatever the config says.
    slides[blocks - 1] = false
    self.slides = slides
    others = try Self.others(fields, core, slides, valuesAreKeys: valuesAreKeys)
    for heads in others.values.map({ ($0.headSize, $0.keyHeads) }) + [
      (core.headSize, core.keyHeads)
    ] {
      guard heads.0.isMultiple(of: 2) else {
        throw fields.bad("head_dim", "\(heads.0) is odd; an even size is needed")
      }
      guard core.heads.isMultiple(of: heads.1) else {
        throw fields.bad(
          "num_key_value_heads", "\(heads.1) does not divide \(core.heads) heads")
      }
    }
    let sharing = fields["num_kv_shared_layers"] ?? 0
    guard let sharing = sharing.int, sharing >= 0, sharing < blocks else {
      throw fields.bad("num_kv_shared_layers", "is \(sharing.text()) of \(blocks) blocks")
    }
    self.sharing = sharing
    let own = slides.prefix(blocks - sharing)
    for slides in Set(slides.suffix(sharing)) where !own.contains(slides) {
      throw fields.bad(
        "num_kv_shared_layers", "leaves no block \(slides ? "with" : "without") a window to share")
    }
    for index in 0..<blocks {
      // One rotary table per layer type, and one cache per block and those that share it.
      let like = heads(of: slides[index] ? slides.firstIndex(of: true) ?? index : blocks - 1)
      guard heads(of: index).headSize == like.headSize,
        heads(of: index) == heads(of: source(of: index))
      else {
        throw fields.bad("per_layer_config", "gives block \(index) other heads than its like")
      }
    }
  }

  /// Heads by block: from `per_layer_config`, or by the keys of blocks without a window.
  private static func others(
    _ fields: ConfigFields, _ core: Attention, _ slides: [Bool], valuesAreKeys: Bool
  ) throws(ModelError) -> [Int: (headSize: Int, keyHeads: Int)] {
    let headSize = try fields.optionalSize("global_head_dim", atMost: 65_536) ?? 512
    let keyHeads = try fields.optionalSize("num_global_key_value_heads", atMost: 65_536)
    var found: [Int: (headSize: Int, keyHeads: Int)] = [:]
    guard let blocks = fields["per_layer_config"] else {
      for index in slides.indices where !slides[index] {
        found[index] = (headSize, valuesAreKeys ? keyHeads ?? core.keyHeads : core.keyHeads)
      }
      return found
    }
    for (key, value) in blocks.object ?? JSONObject() {
      let path = "per_layer_config.\(key)"
      guard let index = Int(key), slides.indices.contains(index), let sizes = value.object else {
        throw fields.bad(path, "is not a block with its sizes")
      }
      var heads = (headSize: core.headSize, keyHeads: core.keyHeads)
      for (name, value) in sizes {
        guard let size = value.int, (1...65_536).contains(size) else {
          throw fields.bad("\(path).\(name)", "is \(value.text()); a size is needed")
        }
        switch name {
        case "head_dim": heads.headSize = size
        case "num_key_value_heads": heads.keyHeads = size
        default:
          throw fields.bad("\(path).\(name)", "is not known; head_dim and num_key_value_heads are")
        }
      }
      found[index] = heads
    }
    return found
  }

  func norm(_ path: String) -> NormShape { NormShape(path, width: hidden, epsilon: epsilon) }

  func isShared(_ index: Int) -> Bool { index >= blocks - sharing }

  /// The block that computes the keys and values of a block.
  func source(of index: Int) -> Int {
    guard isShared(index) else { return index }
    return (0..<blocks - sharing).last { slides[$0] == slides[index] } ?? index
  }

  func heads(of index: Int) -> Attention {
    var heads = core
    if let other = others[index] {
      heads.headSize = other.headSize
      heads.keyHeads = other.keyHeads
    }
    if !slides[index] { heads.window = nil }
    return heads
  }

  func attention(_ index: Int, rotary: RotaryShape) -> AttentionShape {
    let heads = heads(of: index)
    var attention = AttentionShape.split(
      heads, hidden: hidden, inputBias: hasBias, outputBias: hasBias, rotary: rotary)
    func norm(_ name: String, hasWeight: Bool = true) -> AttentionShape.HeadNorm {
      AttentionShape.HeadNorm(
        NormShape(
          "self_attn.\(name)", width: heads.headSize, epsilon: epsilon, hasWeight: hasWeight),
        .head)
    }
    attention.queryNorm = norm("q_norm")
    if isShared(index) {
      attention.sharesCacheOf = source(of: index)
      attention.inputs.removeLast(2)
      return attention
    }
    attention.keyNorm = norm("k_norm")
    attention.valueNorm = norm("v_norm", hasWeight: false)
    if valuesAreKeys, !slides[index] {
      attention.valuesAreKeys = true
      attention.inputs.removeLast()
    }
    return attention
  }

  /// Where the values that travel beside the hidden states lie: the inputs of all blocks, then the
  /// keys and values of each block that later ones share.
  var carried: (keysAndValues: [Int: Range<Int>], width: Int) {
    var found: [Int: Range<Int>] = [:]
    var width = blocks * inputWidth
    for index in blocks - sharing..<blocks where found[source(of: index)] == nil {
      let columns = 2 * heads(of: source(of: index)).keyWidth
      found[source(of: index)] = width..<width + columns
      width += columns
    }
    return (found, width)
  }

  /// The mixture of experts of each block; nil for none. Its router reads the states through its
  /// own norm.
  func experts(_ fields: ConfigFields) throws(ModelError) -> ExpertsShape? {
    let count = try fields.optionalSize("num_experts", atMost: 65_536)
    let chosen = try fields.optionalSize("top_k_experts", atMost: 65_536)
    let width = try fields.optionalSize("moe_intermediate_size")
    guard try fields.flag("enable_moe_block") else { return nil }
    guard let count, let chosen, let width, chosen <= count, count * blocks <= 1 << 16 else {
      throw fields.bad(
        "enable_moe_block", "needs num_experts, top_k_experts and moe_intermediate_size that fit")
    }
    var experts = ExpertsShape.stacked(
      "experts", router: .router("router.proj", experts: count, hidden: hidden), hidden: hidden,
      width: width, count: count, chosen: chosen, .softmaxOfAll(normalizes: true), activation)
    experts.routerInput = ExpertsShape.RouterInput(
      factors: "router.scale", scale: 1 / Float(hidden).squareRoot(), epsilon: epsilon)
    experts.shareFactors = "router.per_expert_scale"
    return experts
  }
}
