import Foundation
import NibbleTensor

/// One file that appears under its name when it is whole; what is there already stays.
package struct OutputFile: ~Copyable {
  private let path: String
  /// Where it is written until then.
  package let partial: String
  private var isPublished = false

  /// - Throws: when something has the name already.
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

  /// Gives the file its name, unless something took that meanwhile.
  package mutating func publish() throws(RunFolderError) {
    try Self.requireNothing(at: path)
    guard unsafe rename(partial, path) == 0 else { throw .file(FileError("name", path)) }
    isPublished = true
    let parent = (path as NSString).deletingLastPathComponent
    try DurableFile.synchronize(folder: parent.isEmpty ? "." : parent)
  }
}
