import NibbleFormats

extension Checkpoint {
  /// The decoder family's view of the config.
  ///
  /// - Throws: for an unknown family; for keys, blocks and tensors that the family's arithmetic would
  ///   pass over. The tensors of a quantized checkpoint are held against its format by
  ///   ``checkTensors(_:storing:)``.
  public func decoderConfig() throws(ModelError) -> DecoderConfig {
    let endOfText = try generationConfig().endOfText
    var decoder = try DecoderConfig(config, path: configPath)
    decoder.endOfText += endOfText.filter { !decoder.endOfText.contains($0) }
    let keys = ConfigKeys(config: decoder, json: config).unknown(ignoring: ignored)
    guard keys.isEmpty else {
      throw .unknownKeys(keys, family: decoder.family.name, path: configPath)
    }
    try checkBlocks(decoder)
    if try quantizationMethod() == nil, config["quantize"]?.string == nil {
      try checkTensors(decoder, storing: StoredNames())
    }
    return decoder
  }

  /// `quant_method` of the config's `quantization_config`; nil for a float model.
  public func quantizationMethod() throws(ModelError) -> String? {
    guard let quantization = config["quantization_config"], !quantization.isNull else { return nil }
    guard quantization.object != nil else {
      throw .config(
        path: configPath, field: "quantization_config",
        reason: "is \(quantization.kind); an object or null is needed")
    }
    guard let method = quantization["quant_method"]?.string else {
      throw .config(
        path: configPath, field: "quantization_config.quant_method",
        reason: "is missing or no name, so that nobody can tell how the weights are stored")
    }
    return method
  }

  /// The same checkpoint, whose config keys and tensors of these names are taken to change nothing.
  ///
  /// - Parameter names: a key of config.json, or what the name of a tensor ends with, such as
  ///   `q_norm.weight`.
  /// - Throws: when a name is that of nothing.
  public func ignoring(_ names: [String]) throws(ModelError) -> Checkpoint {
    var checkpoint = self
    checkpoint.ignored.formUnion(names)
    for name in names where !hasKey(name) {
      guard tensors.contains(where: { Self.name($0.name, endsWith: name) }) else {
        throw .nothingToIgnore(name, path: path)
      }
    }
    return checkpoint
  }

  private func hasKey(_ name: String) -> Bool {
    if config[name] != nil { return true }
    return ConfigKeys.rotaryObjects.contains { object in
      name.hasPrefix(object + ".")
        && config[object]?[String(name.dropFirst(object.count + 1))] != nil
    }
  }

  private static func name(_ name: String, endsWith end: String) -> Bool {
    name == end || name.hasSuffix("." + end)
  }

  /// Every tensor must be one that the family's arithmetic reads.
  ///
  /// - Parameter stored: what the checkpoint's format keeps of each part.
  package func checkTensors(
    _ decoder: DecoderConfig, storing stored: StoredNames
  ) throws(ModelError) {
    let known = stored.names(in: decoder.family)
    var unknown: [String] = []
    var count = 0
    for tensor in tensors {
      let place = decoder.family.place(of: tensor.name)
      let isKnown =
        place.block == nil ? known.outside.contains(place.name) : known.block.contains(place.name)
      if isKnown || StoredNames.harmless.contains(where: { Self.name(tensor.name, endsWith: $0) })
        || ignored.contains(where: { Self.name(tensor.name, endsWith: $0) })
      {
        continue
      }
      count += 1
      if !unknown.contains(place.name) { unknown.append(place.name) }
    }
    guard unknown.isEmpty else {
      throw .unknownTensors(unknown, count: count, family: decoder.family.name, path: path)
    }
  }

  /// The weights must hold as many blocks as the config says.
  private func checkBlocks(_ decoder: DecoderConfig) throws(ModelError) {
    let stored = tensors.reduce(-1) { max($0, decoder.family.place(of: $1.name).block ?? -1) } + 1
    guard stored == decoder.blocks || stored == 0 else {
      throw .config(
        path: configPath, field: "num_hidden_layers",
        reason: "is \(decoder.blocks), but the weights hold \(stored) "
          + "block\(stored == 1 ? "" : "s"), "
          + (stored > decoder.blocks
            ? "block \(decoder.blocks) among them"
            : "and no \(decoder.family.blockPrefix)\(stored)")
          + ": they and the config do not belong together, or a shard was not fetched")
    }
  }
}

/// What a format keeps of each part of a model, as the ends of tensor names.
package struct StoredNames: Sendable {
  /// Of a linear layer and of the embedding.
  var linear: Set<String> = ["weight", "bias"]
  var norm: Set<String> = ["weight"]
  /// Of the module that query, key and value belong to.
  var attention: Set<String> = []
  /// Further linear modules of a block, such as fused ones.
  var modules: Set<String> = []

  package init() {}

  /// - Parameters:
  ///   - linear: beside `weight` and `bias`.
  ///   - norm: beside `weight`.
  package init(
    linear: Set<String>, norm: Set<String> = [], attention: Set<String> = [],
    modules: Set<String> = []
  ) {
    self.linear.formUnion(linear)
    self.norm.formUnion(norm)
    self.attention = attention
    self.modules = modules
  }

  /// Buffers of old checkpoints, which follow from the config.
  static let harmless = ["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"]

  /// All names below a block, and outside the blocks.
  func names(in family: Family) -> (block: Set<String>, outside: Set<String>) {
    func each(_ path: String, _ ends: Set<String>) -> [String] { ends.map { "\(path).\($0)" } }
    var block: Set<String> = []
    for path in family.linears.map(\.path) + modules { block.formUnion(each(path, linear)) }
    for path in [family.inputNorm, family.postAttentionNorm] {
      block.formUnion(each(path, norm))
    }
    block.formUnion(each(family.attention, attention))
    var outside = Set(each(family.finalNorm, norm))
    outside.insert(family.embedding + ".weight")
    // A head has no bias here. One that is stored beside a tied embedding is not read.
    outside.formUnion(each(family.head, linear.subtracting(["bias"])))
    return (block, outside)
  }
}

extension Family {
  /// The number of a tensor's block and its name below it; the whole name outside the blocks.
  func place(of name: String) -> (block: Int?, name: String) {
    guard name.hasPrefix(blockPrefix) else { return (nil, name) }
    let rest = name.dropFirst(blockPrefix.count)
    let digits = rest.prefix { $0 != "." }
    guard let block = Int(digits), block < 1 << 30, String(block) == digits else {
      return (nil, name)
    }
    return (block, String(rest.dropFirst(digits.count + 1)))
  }
}
