import NibbleFormats

/// One file of a repository, as the hub describes it.
struct HubFile: Hashable, Sendable {
  var name: String
  var size: Int?
  var digest: Digest?

  var isWeights: Bool {
    [".safetensors", ".bin", ".gguf"].contains { name.hasSuffix($0) }
  }
}

/// The files of one revision of a repository.
struct HubListing: Hashable, Sendable {
  /// The commit of the revision; nil when the hub does not state it.
  var commit: String?
  var files: [HubFile]

  func file(_ name: String) -> HubFile? { files.first { $0.name == name } }

  /// Reads the hub's answer: `{"sha": ..., "siblings": [{"rfilename", "size", "blobId", "lfs"}]}`.
  ///
  /// A name that points outside the folder makes the repository invalid; a negative size or a
  /// malformed checksum makes the response invalid.
  init(
    parsing bytes: [UInt8], repository: String, address: String, limits: HubLimits
  ) throws(HubError) {
    let json: JSON
    do { json = try JSON(parsing: bytes) } catch {
      throw .badListing(address: address, reason: "\(error)")
    }
    guard let siblings = json["siblings"]?.array else {
      throw .badListing(address: address, reason: "no 'siblings'")
    }
    guard siblings.count <= limits.files else {
      throw .badListing(address: address, reason: "\(siblings.count) files")
    }
    if let sha = json["sha"]?.string {
      guard Digest.isHex(sha, digits: 40) else {
        throw .badListing(address: address, reason: "'sha' is not a commit")
      }
      commit = sha
    }
    files = []
    var seen: Set<UTF8Key> = []
    for sibling in siblings {
      guard let name = sibling["rfilename"]?.string else {
        throw .badListing(address: address, reason: "a file without 'rfilename'")
      }
      guard Self.staysInside(name), seen.insert(UTF8Key(name)).inserted else {
        throw .hostileFileName(repository: repository, name: name)
      }
      let size = sibling["size"] ?? sibling["lfs"]?["size"]
      if let size, !size.isNull, size.int ?? -1 < 0 {
        throw .badListing(address: address, reason: "size of '\(name)'")
      }
      files.append(HubFile(name: name, size: size?.int, digest: try Self.digest(sibling, address)))
    }
  }

  private static func digest(_ sibling: JSON, _ address: String) throws(HubError) -> Digest? {
    if let lfs = sibling["lfs"], !lfs.isNull {
      guard let hex = lfs["sha256"]?.string else { return nil }
      guard Digest.isHex(hex, digits: 64) else {
        throw .badListing(address: address, reason: "'sha256' is not one")
      }
      return .sha256(hex.lowercased())
    }
    guard let hex = sibling["blobId"]?.string else { return nil }
    guard Digest.isHex(hex, digits: 40) else {
      throw .badListing(address: address, reason: "'blobId' is not one")
    }
    return .gitBlob(hex.lowercased())
  }

  /// Whether a path stays inside the folder that it is relative to.
  static func staysInside(_ path: String) -> Bool {
    guard !path.isEmpty, path.utf8.count <= 1024 else { return false }
    guard path.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F && $0 != "\\" })
    else { return false }
    return path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
      .allSatisfy { part in
        !part.isEmpty && part.count <= 200 && !part.elementsEqual(".".utf8)
          && !part.elementsEqual("..".utf8)
      }
  }
}
