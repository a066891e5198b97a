import NibbleFormats
import NibbleTensor

/// The metadata of a GGUF file for its architecture, converted to a Hugging Face config.json.
struct GGUFMetadata {
  static let frequencyFactors = "rope_freqs.weight"

  let file: GGUFFile
  let architecture: GGUFArchitecture
  private var name: String { architecture.name }

  init(_ file: GGUFFile) throws(ModelError) {
    self.file = file
    guard let name = file.metadata["general.architecture"]?.string else {
      throw .config(path: file.path, field: "general.architecture", reason: "is missing")
    }
    guard let architecture = GGUFArchitecture.all.first(where: { $0.name == name }) else {
      throw .unsupported(
        "\(file.path): architecture \"\(shown(name))\" is no family that Nibble reads from GGUF; "
          + "those are \(GGUFArchitecture.all.map(\.name).joined(separator: ", ")). Start from the "
          + "Hugging Face checkpoint for a data-free recipe.")
    }
    self.architecture = architecture
  }

  func config() throws(ModelError) -> JSON {
    guard let embedding = file.tensor("token_embd.weight"), embedding.shape.count == 2 else {
      throw .missingTensor("token_embd.weight", path: file.path)
    }
    let heads = try size("attention.head_count")
    let hidden = try size("embedding_length")
    guard hidden == embedding.shape[1] else {
      throw .tensorShape(
        embedding.name, found: embedding.shape, expected: [embedding.shape[0], hidden])
    }
    let headSize = try optionalSize("attention.key_length") ?? hidden / heads
    guard headSize > 0 else {
      throw .config(path: file.path, field: "\(name).attention.head_count", reason: "is \(heads)")
    }
    for key in ["rope.dimension_count", "attention.value_length"] {
      if let given = try optionalSize(key), given != headSize {
        throw .config(
          path: file.path, field: "\(name).\(key)",
          reason: "is \(given), but heads have \(headSize) channels, all of which Nibble rotates")
      }
    }
    guard let epsilon = value("attention.layer_norm_rms_epsilon")?.float else {
      throw .config(
        path: file.path, field: "\(name).attention.layer_norm_rms_epsilon", reason: "is missing")
    }
    var config: JSON = [
      "architectures": [.string(architecture.className)],
      "model_type": .string(architecture.modelType),
      "hidden_size": JSON(hidden),
      "intermediate_size": JSON(try size("feed_forward_length")),
      "max_position_embeddings": JSON(try size("context_length")),
      "num_attention_heads": JSON(heads),
      "num_hidden_layers": JSON(try size("block_count")),
      "num_key_value_heads": JSON(try optionalSize("attention.head_count_kv") ?? heads),
      "head_dim": JSON(headSize),
      "rms_norm_eps": .number(Double(epsilon)),
      "rope_theta": .number(Double(try number("rope.freq_base") ?? 10_000)),
      "tie_word_embeddings": .bool(file.tensor("output.weight") == nil),
      "torch_dtype": "float16",
      "vocab_size": JSON(embedding.shape[0]),
    ]
    for (field, key) in [
      ("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding"),
    ] {
      if let id = file.metadata["tokenizer.ggml.\(key)_token_id"]?.int {
        config.set(field, JSON(id))
      }
    }
    if let scaling = try ropeScaling(headSize: headSize) { config.set("rope_scaling", scaling) }
    try architecture.complete(&config, self)
    for key in unknownKeys { config.set(key, .string("in the metadata of the GGUF file")) }
    return config
  }

  /// Keys under the architecture's name that are not read and may change the arithmetic. They are
  /// copied to the config, where an unknown key is refused.
  private var unknownKeys: [String] {
    let prefix = name + "."
    return file.metadata.keys.filter { $0.hasPrefix(prefix) }.sorted().filter { key in
      let name = String(key.dropFirst(prefix.count))
      // Zero experts, window or scaling is the same as a missing key.
      let isZero = file.metadata[key]?.int == 0 || file.metadata[key]?.float == 0
      return !Self.knownKeys.contains(name) && !architecture.keys.contains(name) && !isZero
    }
  }

  private static let knownKeys: Set = [
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.layer_norm_rms_epsilon", "attention.value_length", "block_count", "context_length",
    "embedding_length", "feed_forward_length", "rope.dimension_count", "rope.freq_base",
    "rope.scaling.factor", "rope.scaling.finetuned", "rope.scaling.original_context_length",
    "rope.scaling.type", "tensor_data_layout", "vocab_size",
  ]

  func value(_ key: String) -> GGUFValue? { file.metadata["\(name).\(key)"] }

  func optionalSize(_ key: String) throws(ModelError) -> Int? {
    guard let value = value(key) else { return nil }
    guard let size = value.int, (1...1 << 28).contains(size) else {
      throw .config(
        path: file.path, field: "\(name).\(key)",
        reason: "is not a whole number in 1...\(1 << 28)")
    }
    return size
  }

  func number(_ key: String) throws(ModelError) -> Float? {
    guard let value = value(key) else { return nil }
    guard let number = value.float else {
      throw .config(
        path: file.path, field: "\(name).\(key)", reason: "is not a fraction")
    }
    return number
  }

  func size(_ key: String) throws(ModelError) -> Int {
    guard let size = try optionalSize(key) else {
      throw .config(path: file.path, field: "\(name).\(key)", reason: "is missing")
    }
    return size
  }

  /// Linear scaling from metadata; Llama 3.1's from the tensor of factors, whose parameters are
  /// found by trying the published ones.
  private func ropeScaling(headSize: Int) throws(ModelError) -> JSON? {
    if let tensor = file.tensor(Self.frequencyFactors) {
      return try llama3Scaling(tensor, headSize: headSize)
    }
    switch value("rope.scaling.type")?.string ?? "none" {
    case "none": return nil
    case "linear":
      return [
        "rope_type": "linear",
        "factor": .number(Double(try number("rope.scaling.factor") ?? 1)),
      ]
    case let kind:
      throw .config(
        path: file.path, field: "\(name).rope.scaling.type",
        reason: "is \"\(kind)\"; none, linear and the llama3 factors are supported")
    }
  }

  private func llama3Scaling(_ tensor: GGUFTensor, headSize: Int) throws(ModelError) -> JSON {
    guard tensor.type == .f32, tensor.elementCount == headSize / 2 else {
      throw .tensorShape(tensor.name, found: tensor.shape, expected: [headSize / 2])
    }
    let factors = FloatFormat.f32.decode(file.bytes(of: tensor))
    let scaling: JSON = [
      "rope_type": "llama3", "factor": .number(Double(factors.max() ?? 1)), "low_freq_factor": 1,
      "high_freq_factor": 4, "original_max_position_embeddings": 8192,
    ]
    let theta = JSON.number(Double(try number("rope.freq_base") ?? 10_000))
    func frequencies(_ json: JSON) throws(ModelError) -> [Float] {
      try ConfigFields(json: json, path: file.path, family: "Llama")
        .rotary(headSize: headSize, context: 8192).frequencies(positions: 8192)
    }
    let plain = try frequencies(["rope_theta": theta])
    let scaled = try frequencies(["rope_theta": theta, "rope_scaling": scaling])
    for i in factors.indices where abs(plain[i] / scaled[i] - factors[i]) > 1e-3 * factors[i] {
      throw .config(
        path: file.path, field: tensor.name,
        reason: "holds factors that are not Llama 3.1's published scaling")
    }
    return scaling
  }
}
