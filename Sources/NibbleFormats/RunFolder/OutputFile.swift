import Foundation
import NibbleTensor

/// A file that gets its name when it is complete; an existing file is never replaced.
package struct OutputFile: ~Copyable {
  private let path: String
  /// Path while it is written.
  package let partial: String
  private var isPublished = false

  /// - Throws: when the name is taken already.
  package init(_ path: String) throws(RunFolderError) {
    try Self.requireNothing(at: path)
    self.path = path
    partial = path + OutputPath.partialSuffix
  }

  deinit { if !isPublished { unsafe unlink(partial) } }

  private static func requireNothing(at path: String) throws(RunFolderError) {
    var status = stat()
    guard unsafe lstat(path, &status) != 0 else { throw .fileExists(path) }
  }

  /// Gives the file its name, unless the name has been taken meanwhile.
  package mutating func publish() throws(RunFolderError) {
    try Self.requireNothing(at: path)
    guard unsafe rename(partial, path) == 0 else { throw .file(FileError("name", path)) }
    isPublished = true
    let parent = (path as NSString).deletingLastPathComponent
    try DurableFile.synchronize(folder: parent.isEmpty ? "." : parent)
  }
}
