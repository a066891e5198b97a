import NibbleFormats

/// The files of a checkpoint's weights in a repository.
enum HubWeights: Hashable, Sendable {
  /// An index names the shards.
  case indexed(HubFile)
  case files([HubFile])
}

extension HubListing {
  static let indexName = SafetensorsCheckpoint.indexName

  /// Chooses the weights: the requested GGUF; else safetensors; else `pytorch_model.bin` or its
  /// shards; else the only GGUF.
  ///
  /// Only files at the top level count: deeper ones belong to other programs.
  func weights(for reference: HubReference) throws(HubError) -> HubWeights {
    let repository = reference.repository
    if let name = reference.file {
      guard let file = file(name) else { throw .missingFile(repository: repository, file: name) }
      return .files([file])
    }
    let top = files.filter { !$0.name.contains("/") }
    if let index = file(Self.indexName) { return .indexed(index) }
    if let single = file("model.safetensors") { return .files([single]) }
    let safetensors = top.filter { $0.name.hasSuffix(".safetensors") }
    if !safetensors.isEmpty { return .files(safetensors) }
    if let index = file(PyTorchCheckpoint.indexName) { return .indexed(index) }
    if let single = file(PyTorchCheckpoint.singleName) { return .files([single]) }
    let ggufs = top.filter { $0.name.hasSuffix(".gguf") }
    guard ggufs.count < 2 else {
      throw .severalGGUF(repository: repository, files: ggufs.map(\.name).sorted())
    }
    guard let gguf = ggufs.first else {
      let others = [".bin", ".pt", ".pth", ".msgpack", ".h5", ".onnx"]
      let found = top.map(\.name).filter { name in others.contains { name.hasSuffix($0) } }
      throw .noWeights(repository: repository, found: found.sorted())
    }
    return .files([gguf])
  }

  /// The files beside the weights: configuration, tokenizer, chat template, licence.
  func companions() -> [HubFile] {
    files.filter { !$0.name.contains("/") && Self.isCompanion($0.name) }
  }

  static func isCompanion(_ name: String) -> Bool {
    let names = [
      "config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json",
      "vocab.json", "vocab.txt", "merges.txt", "chat_template.json", "quantize_config.json",
      "quant_config.json", "hf_quant_config.json", "preprocessor_config.json", "README.md",
    ]
    let endings = [".jinja", ".model", ".tiktoken"]
    return names.contains(name) || endings.contains { name.hasSuffix($0) }
      || name.hasPrefix("tokenizer") || name.hasPrefix("LICENSE") || name.hasPrefix("LICENCE")
      || name.hasPrefix("NOTICE")
  }

  /// The shards that an index names, each once, in the order of their names.
  ///
  /// - Parameter name: name of the index. PyTorch's index names `.bin` files, the other
  ///   safetensors.
  func shards(
    index bytes: [UInt8], named name: String = indexName, repository: String
  ) throws(HubError) -> [HubFile] {
    let ending = name == PyTorchCheckpoint.indexName ? ".bin" : ".safetensors"
    let json: JSON
    do { json = try JSON(parsing: bytes) } catch {
      throw .badListing(address: name, reason: "\(error)")
    }
    guard let map = json["weight_map"]?.object, map.count > 0 else {
      throw .badListing(address: name, reason: "no 'weight_map'")
    }
    var names: Set<String> = []
    for value in map.values {
      guard let name = value.string, Self.staysInside(name), !name.contains("/"),
        name.hasSuffix(ending)
      else { throw .hostileFileName(repository: repository, name: value.string ?? value.text()) }
      names.insert(name)
    }
    var shards: [HubFile] = []
    for name in names.sorted() {
      guard let file = file(name) else { throw .missingFile(repository: repository, file: name) }
      shards.append(file)
    }
    return shards
  }
}
