import Foundation

/// File operations that report failures as `HubError`.
enum FileStore {
  static let piece = 1 << 20

  static func perform<Value>(
    _ path: URL, _ body: () throws -> Value
  ) throws(HubError) -> Value {
    do { return try body() } catch let error as HubError { throw error } catch {
      throw .cannotWrite(path: path.path, reason: reason(error))
    }
  }

  static func reason(_ error: any Error) -> String {
    let error = error as NSError
    if let inner = error.userInfo[NSUnderlyingErrorKey] as? NSError, inner.domain != error.domain {
      return inner.localizedDescription
    }
    return error.localizedDescription
  }

  /// Size of a regular file; nil when there is none. A link or a folder in its place is refused.
  static func size(of file: URL) throws(HubError) -> Int? {
    guard let attributes = try? FileManager.default.attributesOfItem(atPath: file.path) else {
      return nil
    }
    guard attributes[.type] as? FileAttributeType == .typeRegular else {
      throw .cannotWrite(path: file.path, reason: "it is there and not a regular file")
    }
    return (attributes[.size] as? NSNumber)?.intValue
  }

  static func exists(_ path: URL) -> Bool {
    (try? FileManager.default.attributesOfItem(atPath: path.path)) != nil
  }

  /// Passes a file's bytes to `body` in order, in pieces.
  static func read(_ file: URL, _ body: (Data) -> Void) throws(HubError) {
    try perform(file) {
      let handle = try FileHandle(forReadingFrom: file)
      defer { try? handle.close() }
      while let data = try handle.read(upToCount: piece), !data.isEmpty { body(data) }
    }
  }

  static func remove(_ path: URL) throws(HubError) {
    guard exists(path) else { return }
    try perform(path) { try FileManager.default.removeItem(at: path) }
  }

  static func makeFolder(_ folder: URL) throws(HubError) {
    try perform(folder) {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }
  }

  /// Gives a file or folder its final name, replacing a file of that name, and waits for the disk.
  static func rename(_ old: URL, to new: URL) throws(HubError) {
    try remove(new)
    try perform(new) { try FileManager.default.moveItem(at: old, to: new) }
    try synchronize(folder: new.deletingLastPathComponent())
  }

  /// Waits until the names in a folder are on disk.
  static func synchronize(folder: URL) throws(HubError) {
    try perform(folder) {
      let handle = try FileHandle(forReadingFrom: folder)
      defer { try? handle.close() }
      try handle.synchronize()
    }
  }

  /// Free bytes on the disk of a folder; nil when the system does not report them.
  static func freeBytes(_ folder: URL) -> Int? {
    let attributes = try? FileManager.default.attributesOfFileSystem(forPath: folder.path)
    return (attributes?[.systemFreeSize] as? NSNumber)?.intValue
  }
}
