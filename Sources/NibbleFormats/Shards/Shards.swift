import NibbleTensor

/// A file of named tensors, mapped and checked.
protocol TensorFile: Sendable {
  var path: String { get }
  var entries: [TensorEntry] { get }
  init(path: String) throws(FormatError)
}

extension SafetensorsFile: TensorFile {}
extension PyTorchFile: TensorFile {}

/// The files of one model. Every tensor is in exactly one; a tensor that is in a file but not in
/// the index is accepted, as in vLLM and transformers.
struct Shards<File: TensorFile>: Sendable {
  let files: [File]
  /// By file, then in the file's order.
  let names: [String]
  private let positions: [UTF8Key: Int]

  /// - Parameters:
  ///   - names: names of files in `folder`, in order.
  ///   - index: tensor and file name, where there is an index.
  init(folder: String, names: [String], index: [(String, String)]?) throws(FormatError) {
    var files: [File] = []
    var positions: [UTF8Key: Int] = [:]
    for name in names {
      let file: File
      do { file = try File(path: folder + "/" + name) } catch {
        guard case .file(let cause) = error, cause.isMissing, index != nil else { throw error }
        throw .checkpoint(folder: folder, .shardMissing(name))
      }
      for entry in file.entries {
        if let other = positions.updateValue(files.count, forKey: UTF8Key(entry.name)) {
          throw .checkpoint(folder: folder, .tensorTwice(entry.name, names[other], name))
        }
      }
      files.append(file)
    }
    for (tensor, file) in index ?? [] {
      guard let position = positions[UTF8Key(tensor)], names[position] == file else {
        throw .checkpoint(folder: folder, .tensorMissing(tensor, file))
      }
    }
    self.files = files
    self.positions = positions
    self.names = files.flatMap { $0.entries.map(\.name) }
  }

  /// The file that holds a tensor.
  func file(of name: String) -> File? { positions[UTF8Key(name)].map { files[$0] } }
}
