import Foundation
import NibbleTensor

/// Checks of an output's path before any work.
public enum OutputPath {
  /// Suffix of a folder's name until it is complete.
  package static let partialSuffix = ".nibble-partial"

  /// The path with links resolved, if a folder can be created there.
  ///
  /// - Parameter source: the model that is read; the output must be neither it nor inside it.
  /// - Throws: when something other than an empty folder exists there, or for a path in the source.
  @discardableResult
  public static func checked(_ output: String, source: String?) throws(RunFolderError) -> String {
    let resolved = try resolved(output)
    if let source {
      let source = try Self.resolved(source)
      guard resolved != source, !resolved.hasPrefix(source + "/") else {
        throw .outputIsSource(output)
      }
    }
    var isFolder: ObjCBool = false
    if unsafe FileManager.default.fileExists(atPath: resolved, isDirectory: &isFolder) {
      let content = try? FileManager.default.contentsOfDirectory(atPath: resolved)
      guard isFolder.boolValue, content?.isEmpty == true else { throw .outputExists(output) }
    }
    return resolved
  }

  /// Follows links, also one whose target is missing. Drops a slash at the end, which would put the
  /// partial folder inside the output.
  private static func resolved(_ path: String) throws(RunFolderError) -> String {
    var url = URL(fileURLWithPath: path).standardizedFileURL
    for _ in 0..<40 {
      let parent = url.deletingLastPathComponent().resolvingSymlinksInPath()
      url = parent.appendingPathComponent(url.lastPathComponent)
      guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: url.path) else {
        return url.path
      }
      url = URL(fileURLWithPath: target, relativeTo: parent).standardizedFileURL
    }
    throw .file(FileError("follow the links of", path, code: ELOOP))
  }

  /// Bytes of the files of an unfinished run for this output; 0 when there is none.
  public static func unfinishedBytes(of output: String) -> Int {
    guard let folder = try? resolved(output) + partialSuffix,
      let names = try? FileManager.default.subpathsOfDirectory(atPath: folder)
    else { return 0 }
    return names.reduce(0) { sum, name in
      let attributes = try? FileManager.default.attributesOfItem(atPath: folder + "/" + name)
      guard attributes?[.type] as? FileAttributeType == .typeRegular else { return sum }
      return sum + (attributes?[.size] as? Int ?? 0)
    }
  }

  /// Free bytes on the disk of a path; nil when the system does not report them.
  public static func freeBytes(_ path: String) -> Int? {
    var folder = URL(fileURLWithPath: path).standardizedFileURL
    while !FileManager.default.fileExists(atPath: folder.path), folder.path != "/" {
      folder.deleteLastPathComponent()
    }
    let attributes = try? FileManager.default.attributesOfFileSystem(forPath: folder.path)
    return (attributes?[.systemFreeSize] as? NSNumber)?.intValue
  }
}
