import Foundation
public import NibbleTensor

/// The weights of a model: one safetensors file, or the shards that an index names.
///
/// Every tensor is in exactly one file. A tensor that is in a shard but not in the index is
/// accepted, as in vLLM and transformers.
public struct SafetensorsCheckpoint: Sendable {
  public static let indexName = "model.safetensors.index.json"
  public static let singleName = "model.safetensors"
  static let ascendPrefix = "quant_model_weight"

  public let folder: String
  /// Paths, in the order of their names.
  public let files: [String]
  /// Every tensor: by file, then in offset order.
  public let names: [String]
  private let shards: Shards<SafetensorsFile>

  /// - Parameter folder: a folder with an index or a `model.safetensors`; or one `.safetensors`
  ///   file; or an index.
  public init(folder: String) throws(FormatError) {
    let source = try Source(folder)
    self.folder = source.folder
    shards = try Shards(folder: source.folder, names: source.fileNames, index: source.index)
    files = shards.files.map(\.path)
    names = shards.names
  }

  public func entry(_ name: String) -> TensorEntry? { file(of: name)?.entry(name) }

  /// The data of a tensor, shared with the mapped file.
  public func bytes(of name: String) -> Bytes? { file(of: name)?.bytes(of: name) }

  /// The file that holds a tensor.
  public func file(of name: String) -> SafetensorsFile? {
    shards.file(of: name)
  }
}

extension SafetensorsCheckpoint {
  /// The files to open, determined from the path.
  private struct Source {
    var folder: String
    var fileNames: [String]
    /// Tensor and file name, where there is an index.
    var index: [(String, String)]?

    init(_ path: String) throws(FormatError) {
      if path.hasSuffix(".safetensors") || path.hasSuffix(".index.json") {
        let url = URL(fileURLWithPath: path)
        folder = url.deletingLastPathComponent().path
        fileNames = [url.lastPathComponent]
        if path.hasSuffix(".json") { try readIndex(url.lastPathComponent) }
        return
      }
      folder = path
      fileNames = [singleName]
      let manager = FileManager.default
      guard manager.fileExists(atPath: path + "/" + indexName) else {
        guard !manager.fileExists(atPath: path + "/" + singleName) else { return }
        // Ascend's tools call their files quant_model_weight_w8a8.safetensors and the like.
        let names = (try? manager.contentsOfDirectory(atPath: path)) ?? []
        let other = names.filter { $0.hasPrefix(SafetensorsCheckpoint.ascendPrefix) }
        let indexes = other.filter { $0.hasSuffix(".safetensors.index.json") }
        let files = other.filter { $0.hasSuffix(".safetensors") }
        if indexes.count == 1, let index = indexes.first {
          try readIndex(index)
          return
        }
        guard indexes.isEmpty, files.count == 1 else {
          throw .checkpoint(folder: path, .noWeights)
        }
        fileNames = files
        return
      }
      try readIndex(indexName)
      if !fileNames.contains(singleName), manager.fileExists(atPath: path + "/" + singleName) {
        throw .checkpoint(folder: path, .twoModels(singleName))
      }
    }

    private mutating func readIndex(_ name: String) throws(FormatError) {
      let pairs = try SafetensorsIndex.pairs(of: name, in: folder)
      index = pairs
      fileNames = Set(pairs.map { $0.1 }).sorted()
    }
  }
}
