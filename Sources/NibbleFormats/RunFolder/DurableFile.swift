import Foundation
import NibbleTensor

/// A file that survives a power failure once it is written.
package enum DurableFile {
  /// Writes a file, part by part, and waits for the disk; returns its SHA-256.
  @discardableResult
  package static func write(
    _ parts: some Sequence<[UInt8]>, to path: String
  ) throws(RunFolderError) -> String {
    let file = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw .file(FileError("create", path)) }
    defer { close(file) }
    var hash = Checksum(.sha256)
    for bytes in parts {
      var done = 0
      while done < bytes.count {
        let count = unsafe bytes.withUnsafeBytes {
          unsafe Foundation.write(file, $0.baseAddress! + done, $0.count - done)
        }
        guard count > 0 else { throw .file(FileError("write", path)) }
        done += count
      }
      hash.update(bytes)
    }
    guard fsync(file) == 0 else { throw .file(FileError("flush", path)) }
    return hash.hexadecimal()
  }

  package static func write(_ text: String, to path: String) throws(RunFolderError) {
    try write(CollectionOfOne(Array(text.utf8)), to: path)
  }

  /// Waits until the names in a folder are on disk.
  static func synchronize(folder: String) throws(RunFolderError) {
    let file = unsafe open(folder, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw .file(FileError("open", folder)) }
    defer { close(file) }
    guard fsync(file) == 0 else { throw .file(FileError("flush", folder)) }
  }
}
