import Foundation
import NibbleFormats
import NibbleTensor

extension Checkpoint {
  /// Paths of the files that hold the weights.
  public var weightFiles: [String] {
    switch container {
    case .safetensors(let files): files.files
    case .pytorch(let files): files.files
    case .gguf: [path]
    case .decoded(let weights): weights.checkpoint.weightFiles
    }
  }

  /// One line per weight file: its name, size and modification time.
  ///
  /// - Throws: if a file's attributes cannot be read, so two models never have the same identity by
  ///   accident.
  public func identity() throws(ModelError) -> [String] {
    var lines: [String] = []
    for file in weightFiles {
      let attributes = try? FileManager.default.attributesOfItem(
        atPath: (file as NSString).resolvingSymlinksInPath)
      guard let size = attributes?[.size] as? Int,
        let changed = (attributes?[.modificationDate] as? Date)?.timeIntervalSince1970
      else { throw .format(.file(FileError("look at", file, code: ENOENT))) }
      lines.append("\((file as NSString).lastPathComponent) \(size) \(changed)")
    }
    return lines
  }
}
