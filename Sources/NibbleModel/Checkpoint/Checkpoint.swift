import Foundation
public import NibbleFormats
import NibbleTensor

/// A published model on disk: tensors by their Hugging Face names, and the config.
///
/// Opening reads headers only. A GGUF file appears under the same names; its quantized tensors are
/// widened to float16 when they are read.
public struct Checkpoint: Sendable {
  enum Container: Sendable {
    case safetensors(SafetensorsCheckpoint)
    case pytorch(PyTorchCheckpoint)
    case gguf(GGUFModel)
    case decoded(DecodedWeights)
  }

  public struct Tensor: Hashable, Sendable {
    public var name: String
    /// Type after reading: F16 for a quantized GGUF tensor.
    public var dtype: DType
    public var shape: [Int]

    public var elementCount: Int { shape.reduce(1, *) }
    public var byteCount: Int { elementCount * dtype.bits / 8 }
  }

  /// The folder, or the `.gguf` file.
  public let path: String
  /// config.json, or its equivalent made from GGUF metadata.
  public let config: JSON
  /// In the order of the file.
  public let tensors: [Tensor]
  let container: Container
  /// The families that may read the config.
  let families: [Family]
  private let positions: [UTF8Key: Int]
  /// Config keys, and ends of tensor names, that the user declares to have no effect.
  var ignored: Set<String> = []

  /// - Parameters:
  ///   - path: a folder with config.json and weights, or a `.gguf` file. Safetensors weights take
  ///     precedence over `pytorch_model.bin` and its shards.
  ///   - families: the families that may read the config. The first with its `model_type` is used.
  public init(path: String, families: [Family] = Family.all) throws(ModelError) {
    try self.init(path: path, weights: path, families: families)
  }

  /// - Parameters:
  ///   - path: as above.
  ///   - weights: the folder of the weights, if it is not that of config.json.
  ///   - families: as above.
  public init(
    path: String, weights: String, families: [Family] = Family.all
  ) throws(ModelError) {
    self.path = path
    self.families = families
    if path.lowercased().hasSuffix(".gguf") {
      let model = try GGUFModel(path: path)
      container = .gguf(model)
      config = model.config
      tensors = model.tensors
    } else {
      var isFolder: ObjCBool = false
      guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
        throw .format(.file(FileError("open", path, code: ENOENT)))
      }
      guard isFolder.boolValue else {
        throw .notAModel(path: path, reason: "not a folder and not a .gguf file")
      }
      config = try Self.json(path + "/config.json")
      do { container = try Self.container(weights) } catch { throw .format(error) }
      tensors = container.tensors.filter { [container, config] tensor in
        !Self.isTiedHead(tensor.name, container, config)
      }
    }
    var positions: [UTF8Key: Int] = [:]
    for (index, tensor) in tensors.enumerated() { positions[UTF8Key(tensor.name)] = index }
    self.positions = positions
  }

  /// Another view of a checkpoint.
  init(_ other: Checkpoint, config: JSON, tensors: [Tensor], container: Container) {
    (path, families, ignored) = (other.path, other.families, other.ignored)
    (self.config, self.tensors, self.container) = (config, tensors, container)
    var positions: [UTF8Key: Int] = [:]
    for (index, tensor) in tensors.enumerated() { positions[UTF8Key(tensor.name)] = index }
    self.positions = positions
  }

  public func tensor(_ name: String) -> Tensor? { positions[UTF8Key(name)].map { tensors[$0] } }

  /// Whether tensors are mapped. Those of a GGUF, and codes, are widened into memory of their own.
  public var isMapped: Bool {
    switch container {
    case .safetensors, .pytorch: true
    case .gguf, .decoded: false
    }
  }

  public var configPath: String {
    if case .gguf = container { path } else { path + "/config.json" }
  }

  /// Bytes on disk of all tensors. Tied weights count once if the file stores them once.
  public var bytesOnDisk: Int {
    switch container {
    case .safetensors(let files):
      files.names.reduce(0) { $0 + (files.entry($1)?.byteCount ?? 0) }
    case .pytorch(let files): files.storedBytes
    case .gguf(let model): model.bytesOnDisk
    case .decoded(let weights): weights.checkpoint.bytesOnDisk
    }
  }

  /// Safetensors, unless the folder has only PyTorch weights.
  private static func container(_ folder: String) throws(FormatError) -> Container {
    do { return .safetensors(try SafetensorsCheckpoint(folder: folder)) } catch {
      guard case .checkpoint(_, .noWeights) = error, PyTorchCheckpoint.isIn(folder) else {
        throw error
      }
    }
    return .pytorch(try PyTorchCheckpoint(folder: folder))
  }

  /// Whether a tensor is a head that is tied to the embedding and shares its data in the file.
  /// transformers leaves such a head out of safetensors.
  private static func isTiedHead(_ name: String, _ container: Container, _ config: JSON) -> Bool {
    guard case .pytorch(let files) = container, name == "lm_head.weight" else { return false }
    return config["tie_word_embeddings"]?.bool == true && files.isTied(name)
  }

  /// Reads a JSON file of at most 256 MiB.
  public static func json(_ path: String) throws(ModelError) -> JSON {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw .format(.file(error)) }
    guard file.count <= 256 << 20 else {
      throw .notAModel(path: path, reason: "\(file.count) bytes are too many for a JSON file")
    }
    do { return try JSON(parsing: Bytes(file, 0..<file.count).array) } catch {
      throw .json(path: path, error)
    }
  }
}

extension Checkpoint.Container {
  var tensors: [Checkpoint.Tensor] {
    switch self {
    case .safetensors(let files): Self.tensors(files.names.compactMap { files.entry($0) })
    case .pytorch(let files): Self.tensors(files.names.compactMap { files.entry($0) })
    case .gguf(let model): model.tensors
    case .decoded(let weights): weights.checkpoint.tensors
    }
  }

  private static func tensors(_ entries: [TensorEntry]) -> [Checkpoint.Tensor] {
    entries.map { Checkpoint.Tensor(name: $0.name, dtype: $0.dtype, shape: $0.shape) }
  }
}
