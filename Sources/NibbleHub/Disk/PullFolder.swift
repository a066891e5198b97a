import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The sibling `NAME.partial` that becomes the folder NAME when everything in it is complete.
///
/// A marker inside identifies the repository, so that a pull continues only its own work. A lock on
/// the marker keeps other processes out.
struct PullFolder {
  let target: URL
  let path: URL
  private let marker: URL
  private let lock: FileHandle

  static let markerName = ".nibble-pull"

  init(target folder: String, repository: String) throws(HubError) {
    let target = URL(fileURLWithPath: folder, isDirectory: true).standardizedFileURL
    let path = target.deletingLastPathComponent()
      .appendingPathComponent(target.lastPathComponent + ".partial", isDirectory: true)
    let marker = path.appendingPathComponent(Self.markerName)
    try Self.requireRoom(at: target)
    if FileStore.exists(path) {
      let held = (try? String(contentsOf: marker, encoding: .utf8)) ?? ""
      let contents = (try? FileManager.default.contentsOfDirectory(atPath: path.path)) ?? []
      guard held == repository || contents.isEmpty else {
        throw .foreignFolder(path.path, holds: held.isEmpty ? "other files" : held)
      }
    }
    try FileStore.makeFolder(path)
    if try FileStore.size(of: marker) == nil {
      try FileStore.perform(marker) { try Data(repository.utf8).write(to: marker) }
    }
    lock = try FileStore.perform(marker) { try FileHandle(forReadingFrom: marker) }
    guard flock(lock.fileDescriptor, LOCK_EX | LOCK_NB) == 0 else {
      throw .busy(folder: path.path)
    }
    self.target = target
    self.path = path
    self.marker = marker
  }

  /// An empty folder may be replaced; anything else under that name is kept.
  private static func requireRoom(at target: URL) throws(HubError) {
    guard FileStore.exists(target) else { return }
    let contents = try? FileManager.default.contentsOfDirectory(atPath: target.path)
    guard contents?.isEmpty == true else { throw .folderExists(target.path) }
  }

  func file(_ name: String) -> URL { path.appendingPathComponent(name) }

  /// Whether the complete file is here with the hub's checksum; false when the hub gives no
  /// checksum.
  func holds(_ file: HubFile) throws(HubError) -> Bool {
    let path = self.file(file.name)
    guard let size = try FileStore.size(of: path), let digest = file.digest else { return false }
    guard file.size == nil || file.size == size else { return false }
    let stream = DigestStream(digest, size: size)
    try FileStore.read(path) { stream.update($0) }
    return stream.hex() == digest.hex
  }

  /// Removes files of an earlier run that this run does not need, and gives the folder its final
  /// name.
  ///
  /// The marker is removed last: a pull that is killed before the rename can be continued, and one
  /// that is killed after it leaves a complete folder.
  func finish(keeping files: [HubFile]) throws(HubError) {
    let names = Set(files.map(\.name) + [Self.markerName])
    let contents = try FileStore.perform(path) {
      try FileManager.default.contentsOfDirectory(atPath: path.path)
    }
    for name in contents where !names.contains(name) { try FileStore.remove(file(name)) }
    try FileStore.synchronize(folder: path)
    try Self.requireRoom(at: target)
    try FileStore.rename(path, to: target)
    try FileStore.remove(target.appendingPathComponent(Self.markerName))
    close()
  }

  func close() { try? lock.close() }
}
