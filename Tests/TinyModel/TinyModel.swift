public import Foundation
public import NibbleFormats
public import NibbleTensor

/// Writes a small Llama-shaped checkpoint with pseudo-random weights: the same bytes every time.
public struct TinyModel: Sendable {
  public var blocks = 3
  public var hidden = 64
  public var intermediate = 96
  public var heads = 4
  public var keyHeads = 2
  public var headSize = 16
  public var vocabulary = 128
  public var tiesHead = false
  public var format = FloatFormat.f16
  public var modelType = "llama"
  /// Seed of the weights.
  public var seed: UInt64 = 1

  public init() {}

  public var config: JSON {
    [
      "architectures": ["LlamaForCausalLM"], "model_type": .string(modelType),
      "hidden_size": JSON(hidden), "intermediate_size": JSON(intermediate),
      "num_hidden_layers": JSON(blocks), "num_attention_heads": JSON(heads),
      "num_key_value_heads": JSON(keyHeads), "head_dim": JSON(headSize),
      "vocab_size": JSON(vocabulary), "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
      "max_position_embeddings": 512, "tie_word_embeddings": .bool(tiesHead),
      "hidden_act": "silu", "torch_dtype": "float16",
    ]
  }

  public var tensors: [SafetensorsLayout.Tensor] {
    var tensors: [(String, [Int])] = [("model.embed_tokens.weight", [vocabulary, hidden])]
    for block in 0..<blocks {
      let prefix = "model.layers.\(block)."
      tensors += [
        ("input_layernorm.weight", [hidden]),
        ("self_attn.q_proj.weight", [heads * headSize, hidden]),
        ("self_attn.k_proj.weight", [keyHeads * headSize, hidden]),
        ("self_attn.v_proj.weight", [keyHeads * headSize, hidden]),
        ("self_attn.o_proj.weight", [hidden, heads * headSize]),
        ("post_attention_layernorm.weight", [hidden]),
        ("mlp.gate_proj.weight", [intermediate, hidden]),
        ("mlp.up_proj.weight", [intermediate, hidden]),
        ("mlp.down_proj.weight", [hidden, intermediate]),
      ].map { (prefix + $0.0, $0.1) }
    }
    tensors.append(("model.norm.weight", [hidden]))
    if !tiesHead { tensors.append(("lm_head.weight", [vocabulary, hidden])) }
    return tensors.map {
      SafetensorsLayout.Tensor(
        name: $0.0, dtype: DType(rawValue: format.rawValue.uppercased())!, shape: $0.1)
    }
  }

  /// Writes config.json and model.safetensors into `folder`, which is made.
  ///
  /// - Parameter change: may edit a tensor's values before they are encoded.
  public func write(
    to folder: URL, change: (_ name: String, _ values: inout [Float]) -> Void = { _, _ in }
  ) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try Data((config.text(pretty: true) + "\n").utf8).write(
      to: folder.appendingPathComponent("config.json"))
    let layout = try SafetensorsLayout(tensors)
    let writer = try SafetensorsWriter(
      layout: layout, path: folder.appendingPathComponent("model.safetensors").path)
    var random = TinyRandom(state: seed)
    for tensor in tensors {
      let count = tensor.shape.reduce(1, *)
      let isNorm = tensor.shape.count == 1
      let spread = isNorm ? 0.1 : 1.5 / Float(tensor.shape.last ?? 1).squareRoot()
      var values = (0..<count).map { _ in (isNorm ? 1 : 0) + spread * random.next() }
      change(tensor.name, &values)
      try writer.append(Bytes(format.encode(values.span)), of: tensor.name)
    }
    try writer.finish()
  }
}

/// Pseudo-random numbers in -1...1.
public struct TinyRandom: Sendable {
  var state: UInt64

  public init(state: UInt64) { self.state = state }

  public mutating func next() -> Float {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Float(Int64(state >> 33)) / Float(1 << 30) - 1
  }
}
