import Foundation

/// The part of a file that has been fetched so far: `NAME.part`, with the server's ETag beside it.
///
/// The bytes may come from an earlier run, so the checksum is computed from the file.
struct PartFile {
  let file: HubFile
  let path: URL
  /// Bytes on disk.
  private(set) var count = 0
  /// ETag of the version that these bytes are from; nil if unknown.
  private(set) var tag: String?
  private var handle: FileHandle
  private var digest: DigestStream

  private var tagPath: URL { path.appendingPathExtension("etag") }

  init(_ file: HubFile, in folder: URL) throws(HubError) {
    self.file = file
    let path = folder.appendingPathComponent(file.name + ".part")
    self.path = path
    if try FileStore.size(of: path) == nil {
      guard FileManager.default.createFile(atPath: path.path, contents: nil) else {
        throw .cannotWrite(path: path.path, reason: "it cannot be created")
      }
    }
    let digest = DigestStream(file.digest, size: file.size)
    var count = 0
    try FileStore.read(path) { data in
      digest.update(data)
      count += data.count
    }
    self.digest = digest
    self.count = count
    handle = try FileStore.perform(path) { try FileHandle(forWritingTo: path) }
    let saved = try? String(contentsOf: tagPath, encoding: .utf8)
    tag = saved.flatMap { $0.isEmpty || $0.utf8.count > 1024 ? nil : $0 }
    try FileStore.perform(path) { _ = try handle.seekToEnd() }
    if let size = file.size, count > size { try restart() }
  }

  /// Discards all bytes and starts again.
  mutating func restart() throws(HubError) {
    try FileStore.perform(path) {
      try handle.truncate(atOffset: 0)
      try handle.seek(toOffset: 0)
    }
    try FileStore.remove(tagPath)
    tag = nil
    count = 0
    digest = DigestStream(file.digest, size: file.size)
  }

  mutating func remember(tag new: String?) throws(HubError) {
    guard tag != new else { return }
    try FileStore.remove(tagPath)
    if let new {
      try FileStore.perform(tagPath) { try Data(new.utf8).write(to: tagPath) }
    }
    tag = new
  }

  mutating func append(_ data: Data) throws(HubError) {
    try FileStore.perform(path) { try handle.write(contentsOf: data) }
    digest.update(data)
    count += data.count
  }

  /// Deletes the file, so that the next run starts from the beginning.
  func discard() throws(HubError) {
    try? handle.close()
    try FileStore.remove(path)
    try FileStore.remove(tagPath)
  }

  /// Keeps the bytes for a later run.
  func close() { try? handle.close() }

  /// Checks size and checksum, and gives the file its final name.
  func finish(as target: URL) throws(HubError) {
    if let size = file.size, size != count {
      try discard()
      throw .wrongSize(file: file.name, expected: size, found: count)
    }
    if let expected = file.digest, let found = digest.hex(), expected.hex != found {
      try discard()
      throw .wrongChecksum(file: file.name, expected: expected.hex, found: found)
    }
    try FileStore.perform(path) {
      try handle.synchronize()
      try handle.close()
    }
    try FileStore.remove(tagPath)
    try FileStore.rename(path, to: target)
  }
}
