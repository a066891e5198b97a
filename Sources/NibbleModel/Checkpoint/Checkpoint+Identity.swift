import Foundation
import NibbleFormats

extension Checkpoint {
  /// Lines that change when a weight file does: name, size and time of change of each.
  public var identity: [String] {
    let files: [String] =
      switch container {
      case .safetensors(let files): files.files
      case .gguf: [path]
      }
    return files.map { file in
      let attributes = try? FileManager.default.attributesOfItem(
        atPath: (file as NSString).resolvingSymlinksInPath)
      let size = attributes?[.size] as? Int ?? 0
      let changed = (attributes?[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0
      return "\((file as NSString).lastPathComponent) \(size) \(changed)"
    }
  }
}
