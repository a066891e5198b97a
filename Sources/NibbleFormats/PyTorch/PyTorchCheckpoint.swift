import Foundation
public import NibbleTensor

/// The weights of a model in files of torch.save: one, or the shards that an index names.
public struct PyTorchCheckpoint: Sendable {
  public static let indexName = "pytorch_model.bin.index.json"
  public static let singleName = "pytorch_model.bin"

  public let folder: String
  private let shards: Shards<PyTorchFile>

  /// - Parameter folder: holds an index, or a `pytorch_model.bin`.
  public init(folder: String) throws(FormatError) {
    let manager = FileManager.default
    let hasSingle = manager.fileExists(atPath: folder + "/" + Self.singleName)
    guard manager.fileExists(atPath: folder + "/" + Self.indexName) else {
      guard hasSingle else { throw .checkpoint(folder: folder, .noWeights) }
      self.folder = folder
      shards = try Shards(folder: folder, names: [Self.singleName], index: nil)
      return
    }
    let pairs = try SafetensorsIndex.pairs(of: Self.indexName, in: folder)
    let names = Set(pairs.map { $0.1 }).sorted()
    if hasSingle, !names.contains(Self.singleName) {
      throw .checkpoint(folder: folder, .twoModels(Self.singleName))
    }
    self.folder = folder
    shards = try Shards(folder: folder, names: names, index: pairs)
  }

  /// Whether a folder has files with names that this reads.
  public static func isIn(_ folder: String) -> Bool {
    [indexName, singleName].contains {
      FileManager.default.fileExists(atPath: folder + "/" + $0)
    }
  }

  /// Paths of the weights, in the order of their names.
  public var files: [String] { shards.files.map(\.path) }
  /// Every tensor: by file, then in the order of `PyTorchFile.entries`.
  public var names: [String] { shards.names }
  /// Bytes of all tensors; those of tied weights count once.
  public var storedBytes: Int { shards.files.reduce(0) { $0 + $1.storedBytes } }

  /// Whether a tensor covers the same storage as an earlier one of its file: tied weights.
  public func isTied(_ name: String) -> Bool {
    shards.file(of: name)?.isTied(name) == true
  }

  public func entry(_ name: String) -> TensorEntry? { shards.file(of: name)?.entry(name) }

  /// The data of a tensor, shared with the mapped file.
  public func bytes(of name: String) -> Bytes? { shards.file(of: name)?.bytes(of: name) }
}
