import Foundation
import NibbleFormats
public import NibbleModel
import NibbleTensor

/// What the files of a checkpoint say, read once: configs, headers, small tensors.
///
/// Nothing is refused here, for the contract of an engine names what is wrong. Reading is bounded: no
/// weight is read, and no file is trusted.
public struct CheckpointFacts: Sendable {
  /// The folder, or the `.gguf` file.
  public let path: String
  /// Ranks that will run the model together.
  public let ranks: Int
  /// Remarks about checks that could not be made.
  public internal(set) var notes: [String] = []
  /// Names in the folder; empty for a GGUF file.
  let fileNames: Set<String>
  /// config.json; null if there is none.
  let config: JSON
  let isGGUF: Bool
  /// Nil for a folder, and for a GGUF file that cannot be read.
  let gguf: GGUFFile?
  /// What is wrong with the weight files.
  let fileFaults: [Fault]
  /// Whether all weight files could be read.
  let isComplete: Bool
  let weights: StoredWeights
  /// By path.
  let modules: [String: StoredModule]
  let quantization: QuantizationConfig
  /// The decoder that the config describes; nil if Nibble does not know its family.
  let shape: DecoderShape?
  /// The linear layers, with what the config says about each.
  let linears: [LinearFact]

  /// - Parameter path: a folder, or a `.gguf` file.
  /// - Throws: if there is nothing at the path.
  public init(path: String, ranks: Int = 1) throws(ModelError) {
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw .format(.file(FileError("open", path, code: ENOENT)))
    }
    (self.path, self.ranks) = (path, max(1, ranks))
    guard isFolder.boolValue else {
      guard path.lowercased().hasSuffix(".gguf") else {
        throw .notAModel(path: path, reason: "not a folder and not a .gguf file")
      }
      isGGUF = true
      var faults: [Fault] = []
      var file: GGUFFile?
      do { file = try GGUFFile(path: path) } catch {
        faults.append(Fault(StoredModule.fileName(of: path), Self.reason(error)))
      }
      gguf = file
      (fileNames, config, weights, modules, shape) = ([], .null, StoredWeights(), [:], nil)
      (fileFaults, isComplete, linears) = (faults, file != nil, [])
      quantization = QuantizationConfig(method: "gguf")
      return
    }
    (isGGUF, gguf) = (false, nil)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    let config = Self.json(path + "/config.json") ?? .null
    let weights = StoredWeights(folder: path, names: names)
    let modules = Self.modules(of: weights.tensors)
    let quantization = QuantizationConfig(folder: path, names: Set(names), config: config)
    var notes: [String] = []
    let shape = Self.shape(config, path + "/config.json", modules, &notes)
    if !weights.isComplete {
      notes.append("a weight file cannot be read, so checks that need all tensors were left out")
    }
    linears = LinearFact.all(shape, modules, quantization)
    (fileNames, self.config, self.weights, self.modules) = (Set(names), config, weights, modules)
    (self.quantization, self.shape, fileFaults) = (quantization, shape, weights.faults)
    isComplete = weights.isComplete && !weights.tensors.isEmpty
    if linears.count > Self.sampleLimit {
      notes.append("of \(linears.count) layers, the scales of \(sampledLinears.count) were read")
    }
    self.notes = notes
  }

  /// `float`, `gguf`, `mlx`, `ascend`, or the value of `quant_method`.
  var method: String { quantization.method }

  /// A member of the config of the text model, or of the whole.
  func field(_ name: String) -> JSON? {
    config["text_config"]?[name] ?? config[name]
  }

  /// The type that activations have: `float16` and so on; nil if the config does not say.
  var activationType: String? {
    (field("dtype") ?? field("torch_dtype") ?? config["torch_dtype"])?.string
  }

  /// A JSON file of at most 64 MiB; nil if there is none or it cannot be read.
  static func json(_ path: String) -> JSON? {
    guard let file = try? MappedFile(path: path), file.count <= 64 << 20 else { return nil }
    return try? JSON(parsing: Bytes(file, 0..<file.count).array)
  }

  /// A JSON file of the folder.
  func file(_ name: String) -> JSON? {
    fileNames.contains(name) ? Self.json(path + "/" + name) : nil
  }

  private static func modules(of tensors: [StoredTensor]) -> [String: StoredModule] {
    var modules: [String: StoredModule] = [:]
    for tensor in tensors {
      let parent = StoredModule.parent(of: tensor.name)
      let suffix = StoredModule.lastComponent(of: tensor.name)
      modules[parent, default: StoredModule(path: parent)].tensors[suffix] = tensor
    }
    return modules
  }

  /// The family's shape, without a complaint about keys that it does not know.
  private static func shape(
    _ config: JSON, _ path: String, _ modules: [String: StoredModule], _ notes: inout [String]
  ) -> DecoderShape? {
    guard config.object != nil else { return nil }
    do {
      return try DecoderShape(config, path: path, refusesUnknown: false) { name in
        let module = modules[StoredModule.parent(of: name)]
        return module?[StoredModule.lastComponent(of: name)] != nil
          || name.hasSuffix(".weight") && module?.isQuantized == true
      }
    } catch {
      let type = config["model_type"]?.string ?? "missing"
      notes.append(
        "Nibble does not know this model (model_type \(shown(type))): its linear layers come from the "
          + "names of the tensors, and missing layers, sizes and unknown names were not checked")
      return nil
    }
  }

  private static func reason(_ error: FormatError) -> String {
    if case .gguf(_, let name, let byte, let fault) = error {
      return "byte \(byte): \(name.map { shown($0) + ": " } ?? "")\(fault)"
    }
    return "it cannot be read"
  }
}

extension StoredModule {
  /// Last component of a file path.
  static func fileName(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
  }
}
