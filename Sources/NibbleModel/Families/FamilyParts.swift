public import NibbleTensor

extension AttentionShape {
  /// Attention with separate query, key, value and output linears.
  public static func split(
    _ core: Attention, path: String = "self_attn", hidden: Int,
    names: [String] = ["q_proj", "k_proj", "v_proj", "o_proj"], inputBias: Bool = false,
    outputBias: Bool = false, rotary: RotaryShape?
  ) -> AttentionShape {
    AttentionShape(
      path, core,
      inputs: [
        LinearShape(
          .query, "\(path).\(names[0])", outputs: core.queryWidth, inputs: hidden, bias: inputBias),
        LinearShape(
          .key, "\(path).\(names[1])", outputs: core.keyWidth, inputs: hidden, bias: inputBias),
        LinearShape(
          .value, "\(path).\(names[2])", outputs: core.keyWidth, inputs: hidden, bias: inputBias),
      ],
      output: LinearShape(
        .output, "\(path).\(names[3])", outputs: hidden, inputs: core.queryWidth, bias: outputBias),
      rotary: rotary)
  }

  /// How the outputs of one fused linear are divided among query, key and value.
  public enum FusedRows {
    /// All queries, then all keys, then all values.
    case concatenated
    /// Per key head: its queries, its key, its value.
    case perKeyHead
  }

  /// Attention with one fused linear for query, key and value, and one for the output.
  public static func fused(
    _ path: String, _ core: Attention, hidden: Int, input: String, output: String,
    rows: FusedRows, inputBias: Bool, outputBias: Bool, isTransposed: Bool = false,
    rotary: RotaryShape?
  ) -> AttentionShape {
    let (q, k, d) = (core.queryWidth, core.keyWidth, core.headSize)
    let parts: [LinearShape.Part]
    switch rows {
    case .concatenated:
      parts = [
        LinearShape.Part(.query, [0..<q]), LinearShape.Part(.key, [q..<q + k]),
        LinearShape.Part(.value, [q + k..<q + 2 * k]),
      ]
    case .perKeyHead:
      let shared = core.heads / core.keyHeads
      func rows(_ first: Int, _ count: Int) -> [Range<Int>] {
        (0..<core.keyHeads).map { head in
          let start = (head * (shared + 2) + first) * d
          return start..<start + count * d
        }
      }
      parts = [
        LinearShape.Part(.query, rows(0, shared)), LinearShape.Part(.key, rows(shared, 1)),
        LinearShape.Part(.value, rows(shared + 1, 1)),
      ]
    }
    var inputs = LinearShape(
      "\(path).\(input)", outputs: q + 2 * k, inputs: hidden, bias: inputBias, parts: parts)
    var end = LinearShape(
      .output, "\(path).\(output)", outputs: hidden, inputs: q, bias: outputBias)
    inputs.isTransposed = isTransposed
    end.isTransposed = isTransposed
    return AttentionShape(path, core, inputs: [inputs], output: end, rotary: rotary)
  }
}

extension FeedForwardShape {
  /// A gated unit with separate gate, up and down linears.
  public static func gated(
    _ path: String = "mlp", hidden: Int, width: Int, _ activation: Activation = .silu,
    names: [String] = ["gate_proj", "up_proj", "down_proj"], bias: Bool = false
  ) -> FeedForwardShape {
    FeedForwardShape(
      activation, isGated: true,
      inputs: [
        LinearShape(.gate, "\(path).\(names[0])", outputs: width, inputs: hidden, bias: bias),
        LinearShape(.up, "\(path).\(names[1])", outputs: width, inputs: hidden, bias: bias),
      ],
      down: LinearShape(.down, "\(path).\(names[2])", outputs: hidden, inputs: width, bias: bias))
  }

  /// A gated unit with one fused linear, gate rows first and up rows last, and down.
  public static func fusedGated(
    _ path: String = "mlp", hidden: Int, width: Int, _ activation: Activation = .silu,
    names: [String] = ["gate_up_proj", "down_proj"]
  ) -> FeedForwardShape {
    FeedForwardShape(
      activation, isGated: true,
      inputs: [
        LinearShape(
          "\(path).\(names[0])", outputs: 2 * width, inputs: hidden, bias: false,
          parts: [
            LinearShape.Part(.gate, [0..<width]), LinearShape.Part(.up, [width..<2 * width]),
          ])
      ],
      down: LinearShape(.down, "\(path).\(names[1])", outputs: hidden, inputs: width))
  }

  /// A unit without a gate: up, activation, down.
  public static func plain(
    _ up: String, _ down: String, hidden: Int, width: Int, _ activation: Activation, bias: Bool,
    isTransposed: Bool = false
  ) -> FeedForwardShape {
    var first = LinearShape(.up, up, outputs: width, inputs: hidden, bias: bias)
    var last = LinearShape(.down, down, outputs: hidden, inputs: width, bias: bias)
    first.isTransposed = isTransposed
    last.isTransposed = isTransposed
    return FeedForwardShape(activation, isGated: false, inputs: [first], down: last)
  }
}

extension ExpertsShape {
  /// A mixture of gated experts with separate linears, `PATH.experts.E.NAME`, and a router.
  public static func gated(
    _ path: String, router: String = "gate", hidden: Int, width: Int, count: Int, chosen: Int,
    _ shares: Shares, _ activation: Activation,
    names: [String] = ["gate_proj", "up_proj", "down_proj"]
  ) -> ExpertsShape {
    ExpertsShape(
      router: .router("\(path).\(router)", experts: count, hidden: hidden), chosen: chosen, shares,
      units: (0..<count).map { expert in
        .gated(
          "\(path).experts.\(expert)", hidden: hidden, width: width, activation, names: names)
      })
  }
}

extension AttentionShape {
  /// The same attention with an output gate: query's linear has twice as many outputs, per head the
  /// query and then the gate.
  public var gated: AttentionShape {
    var shape = self
    let (query, d) = (inputs[0], core.headSize)
    func rows(_ first: Int) -> [Range<Int>] {
      (0..<core.heads).map { head in
        let start = (2 * head + first) * d
        return start..<start + d
      }
    }
    shape.inputs[0] = LinearShape(
      query.id.rawValue, outputs: 2 * core.queryWidth, inputs: query.inputs,
      bias: query.bias == .required,
      parts: [LinearShape.Part(.query, rows(0)), LinearShape.Part(.outputGate, rows(1))])
    return shape
  }
}

extension ExpertsShape {
  /// A mixture of gated experts in two stacked tensors: `PATH.gate_up_proj` `[experts, 2 width,
  /// hidden]`, gate rows first, and `PATH.down_proj` `[experts, hidden, width]`.
  public static func stacked(
    _ path: String, router: LinearShape, hidden: Int, width: Int, count: Int, chosen: Int,
    _ shares: Shares, _ activation: Activation
  ) -> ExpertsShape {
    let units = (0..<count).map { expert in
      var unit = FeedForwardShape.gated(
        "\(path).\(expert)", hidden: hidden, width: width, activation)
      func place(_ linear: inout LinearShape, _ name: String, of outputs: Int, from first: Int) {
        linear.stack = LinearShape.Stack(
          "\(path).\(name)", expert: expert, of: count, outputs: outputs, first: first)
      }
      place(&unit.inputs[0], "gate_up_proj", of: 2 * width, from: 0)
      place(&unit.inputs[1], "gate_up_proj", of: 2 * width, from: width)
      place(&unit.down, "down_proj", of: hidden, from: 0)
      return unit
    }
    return ExpertsShape(router: router, chosen: chosen, shares, units: units)
  }
}

extension LinearShape {
  /// A linear that routes tokens to experts, or gates the shared expert. Stays float.
  public static func router(
    _ path: String, experts: Int, hidden: Int, bias: Bool = false
  ) -> LinearShape {
    var router = LinearShape(.router, path, outputs: experts, inputs: hidden, bias: bias)
    router.staysFloat = true
    return router
  }
}

extension BlockShape {
  /// Pre-norm block, as in Llama: a norm before attention and a norm before the feed-forward unit.
  public static func preNorm(
    _ path: String, _ first: NormShape, _ attention: AttentionShape, _ second: NormShape,
    _ feedForward: FeedForwardShape, scale: Float = 1
  ) -> BlockShape {
    preNorm(path, first, attention, second, .feedForward(feedForward), scale: scale)
  }

  /// Pre-norm block with any second branch, such as experts.
  public static func preNorm(
    _ path: String, _ first: NormShape, _ attention: AttentionShape, _ second: NormShape,
    _ body: Branch.Body, scale: Float = 1
  ) -> BlockShape {
    BlockShape(
      path, .sequential,
      [
        Branch(before: first, .attention(attention), scale: scale),
        Branch(before: second, body, scale: scale),
      ])
  }
}

extension ConfigFields {
  /// A decoder whose parts outside the blocks have the names that most families use.
  public func decoder(
    hidden: Int, context: Int, blocks: [BlockShape], finalNorm: NormShape?,
    tiesHead: Bool = false, embedding: String = "model.embed_tokens",
    blockPrefix: String = "model.layers.", head: String = "lm_head"
  ) throws(ModelError) -> DecoderShape {
    DecoderShape(
      family: family, hidden: hidden, vocabulary: try size("vocab_size"), context: context,
      embedding: EmbeddingShape(embedding, width: hidden), blockPrefix: blockPrefix,
      blocks: blocks, finalNorm: finalNorm,
      head: HeadShape(head, isTied: try flag("tie_word_embeddings", default: tiesHead)),
      endOfText: [])
  }

  /// The number of experts per block, and the number that each token passes.
  ///
  /// - Parameters:
  ///   - names: config keys of the number of experts; the first one present counts.
  ///   - count: the default number of experts.
  ///   - chosen: the default of `num_experts_per_tok`.
  ///   - blocks: the number of blocks. The number of experts in all blocks is limited, so that a config
  ///     cannot request an unbounded number of tensor names.
  public func experts(
    _ names: [String], default count: Int, chosen: Int, blocks: Int
  ) throws(ModelError) -> (count: Int, chosen: Int) {
    let count = try optionalSize(anyOf: names, atMost: 65_536) ?? count
    guard count * blocks <= 1 << 16 else {
      throw bad(names[0], "is \(count) in \(blocks) blocks; up to 65536 experts in all are read")
    }
    let chosen = try optionalSize("num_experts_per_tok", atMost: 65_536) ?? chosen
    guard chosen <= count else {
      throw bad("num_experts_per_tok", "is \(chosen), but there are \(count) experts")
    }
    return (count, chosen)
  }

  /// The number of blocks.
  public func blockCount(_ names: [String] = ["num_hidden_layers"]) throws(ModelError) -> Int {
    try size(anyOf: names, atMost: 10_000)
  }
}
