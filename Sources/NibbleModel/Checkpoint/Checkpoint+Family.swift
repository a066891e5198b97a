package import NibbleFormats
import NibbleTensor

extension Checkpoint {
  /// The shape of the decoder, as its family reads it from the config.
  ///
  /// - Throws: for an unknown family; for keys, blocks and tensors that the family's arithmetic
  ///   would ignore. The tensors of a quantized checkpoint are checked against its format by
  ///   ``checkTensors(_:storing:)``.
  public func decoderShape() throws(ModelError) -> DecoderShape {
    let endOfText = try generationConfig().endOfText
    var decoder = try DecoderShape(
      config, path: configPath, families: families,
      ignoring: isMLX ? ignored.union(["quantization"]) : ignored
    ) { tensor($0) != nil }
    decoder.endOfText += endOfText.filter { !decoder.endOfText.contains($0) }
    try checkBlocks(decoder)
    if try quantizationMethod() == nil {
      try checkTensors(decoder, storing: StoredNames())
    }
    return decoder
  }

  /// The shape that the config describes. Does not check that Nibble supports all of the
  /// checkpoint.
  ///
  /// - Throws: for an unknown family, and for invalid fields.
  public func describedShape() throws(ModelError) -> DecoderShape {
    try DecoderShape(config, path: configPath, families: families, refusesUnknown: false) {
      tensor($0) != nil
    }
  }

  /// The name of the format of a quantized checkpoint; nil for a float model.
  ///
  /// `quant_method` of the config's `quantization_config`; `ascend` with the key `quantize` of
  /// msModelSlim; `mlx` with the object `quantization` of mlx-lm.
  public func quantizationMethod() throws(ModelError) -> String? {
    if config["quantize"]?.string != nil { return "ascend" }
    guard let quantization = config["quantization_config"], !quantization.isNull else {
      return isMLX ? Self.mlxMethod : nil
    }
    guard quantization.object != nil else {
      throw .config(
        path: configPath, field: "quantization_config",
        reason: "is \(quantization.kind); an object or null is needed")
    }
    guard let method = quantization["quant_method"]?.string else {
      if isMLX { return Self.mlxMethod }
      throw .config(
        path: configPath, field: "quantization_config.quant_method",
        reason: "is missing or no name, so that nobody can tell how the weights are stored")
    }
    return method
  }

  private var isMLX: Bool { config["quantization"]?["group_size"] != nil }

  /// The name of mlx-lm's format, which its config does not say.
  package static let mlxMethod = "mlx"

  /// The same checkpoint, where config keys and tensors with these names count as having no effect.
  ///
  /// - Parameter names: keys of config.json, or suffixes of tensor names, such as `q_norm.weight`.
  /// - Throws: if a name matches nothing.
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

  /// Throws if there is a tensor that the family's arithmetic does not read.
  ///
  /// - Parameter stored: suffixes of the tensors that the checkpoint's format stores per module.
  package func checkTensors(
    _ decoder: DecoderShape, storing stored: StoredNames
  ) throws(ModelError) {
    let family = try Family.of(Wrapper.text(of: config), path: configPath, among: families)
    let outside = stored.names(outside: decoder)
    let blocks = decoder.blocks.map { stored.names(in: $0) }
    let harmless = StoredNames.harmless + family.harmlessTensors
    var unknown: [String] = []
    var count = 0
    for tensor in tensors {
      let place = decoder.place(of: tensor.name)
      let isKnown =
        place.block.map { $0 < blocks.count && blocks[$0].contains(place.name) }
        ?? outside.contains(place.name)
      if isKnown || decoder.isOfTower(tensor.name)
        || harmless.contains(where: { Self.name(tensor.name, endsWith: $0) })
        || ignored.contains(where: { Self.name(tensor.name, endsWith: $0) })
      {
        continue
      }
      count += 1
      if !unknown.contains(place.name) { unknown.append(place.name) }
    }
    guard unknown.isEmpty else {
      throw .unknownTensors(unknown, count: count, family: decoder.family, path: path)
    }
  }

  /// Throws if the number of blocks among the weights is not that of the config.
  private func checkBlocks(_ decoder: DecoderShape) throws(ModelError) {
    let stored = tensors.reduce(-1) { max($0, decoder.place(of: $1.name).block ?? -1) } + 1
    guard stored == decoder.blocks.count || stored == 0 else {
      throw .config(
        path: configPath, field: "num_hidden_layers",
        reason: "is \(decoder.blocks.count), but the weights hold \(stored) "
          + "block\(stored == 1 ? "" : "s"), "
          + (stored > decoder.blocks.count
            ? "block \(decoder.blocks.count) among them"
            : "and no \(decoder.blockPrefix)\(stored)")
          + ": they and the config do not belong together, or a shard was not fetched")
    }
  }
}

extension Family {
  /// Ends of the names of stored tensors that are no parameters of the model a config describes.
  package static func harmlessTensors(_ config: JSON) -> [String] {
    let family = try? of(Wrapper.text(of: config), path: "", among: all)
    return StoredNames.harmless + (family?.harmlessTensors ?? [])
  }
}

/// Suffixes of the tensor names that a format stores per module.
package struct StoredNames: Sendable {
  /// Of a linear layer.
  var linear: Set<String> = ["weight", "bias"]
  var norm: Set<String> = ["weight"]
  /// Of the embedding.
  var embedding: Set<String> = ["weight"]
  /// Of the attention module.
  var attention: Set<String> = []
  /// Further linear modules of a block, such as fused ones.
  var modules: Set<String> = []
  /// Suffixes of a tensor that stacks experts.
  var stacked: Set<String> = [""]

  package init() {}

  /// - Parameters:
  ///   - linear: in addition to `weight` and `bias`.
  ///   - norm: in addition to `weight`.
  ///   - embedding: in addition to `weight`.
  ///   - stacked: suffixes of a tensor that stacks experts, instead of the empty one.
  package init(
    linear: Set<String>, norm: Set<String> = [], embedding: Set<String> = [],
    attention: Set<String> = [], modules: Set<String> = [], stacked: Set<String> = [""]
  ) {
    self.linear.formUnion(linear)
    self.norm.formUnion(norm)
    self.embedding.formUnion(embedding)
    self.attention = attention
    self.modules = modules
    self.stacked = stacked
  }

  /// Buffers of old checkpoints, whose values follow from the config.
  static let harmless = ["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"]

  /// All names within a block.
  package func names(in block: BlockShape) -> Set<String> {
    var names: Set<String> = []
    for shape in block.linears {
      if let stack = shape.stack {
        names.formUnion(stacked.map { stack.tensor + $0 })
        if let bias = stack.bias { names.insert(bias) }
      } else {
        names.formUnion(each(shape.id.rawValue, linear))
      }
    }
    for path in modules { names.formUnion(each(path, linear)) }
    for shape in block.norms { names.formUnion(each(shape.path, norm(shape))) }
    for heads in block.headNorms {
      let count = heads.span == .ownModule ? block.attention?.core.heads ?? 0 : 1
      for head in 0..<count {
        let path = heads.span == .ownModule ? "\(heads.norm.path).\(head)" : heads.norm.path
        names.formUnion(each(path, norm(heads.norm)))
      }
    }
    if let shape = block.attention {
      names.formUnion(each(shape.path, attention))
    }
    names.formUnion(block.parameters.map(\.name) + block.unread)
    return names
  }

  /// All names outside the blocks.
  package func names(outside decoder: DecoderShape) -> Set<String> {
    var names = Set(each(decoder.embedding.path, embedding))
    for shape in [decoder.finalNorm, decoder.embedding.norm].compactMap(\.self) {
      names.formUnion(each(shape.path, norm(shape)))
    }
    for path in [
      decoder.embedding.positions?.path, decoder.embedding.projection, decoder.head.projection,
    ].compactMap(\.self) { names.insert(path + ".weight") }
    if let inputs = decoder.embedding.blockInputs {
      names.formUnion([inputs.path + ".weight", inputs.projection + ".weight"])
      names.formUnion(each(inputs.norm.path, norm(inputs.norm)))
    }
    // A head has no bias here. A bias stored beside a tied embedding is not read.
    names.formUnion(each(decoder.head.path, linear.subtracting(["bias"])))
    return names
  }

  private func each(_ path: String, _ ends: Set<String>) -> [String] {
    ends.map { "\(path).\($0)" }
  }

  private func norm(_ shape: NormShape) -> Set<String> {
    var ends = norm
    if !shape.hasWeight { ends.remove("weight") }
    if shape.hasBias { ends.insert("bias") }
    return ends
  }
}
