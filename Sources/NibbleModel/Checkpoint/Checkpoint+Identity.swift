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
    }
  }

  /// One line per weight file, which changes when the file does: its name, size and modification
  /// time.
  ///
  /// - Throws: when a file cannot be examined, so that two models are never mistaken for one.
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
