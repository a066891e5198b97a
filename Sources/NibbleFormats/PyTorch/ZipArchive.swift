import NibbleTensor

/// The files of an uncompressed ZIP archive, as torch.save writes it.
///
/// The directory at the end lists the files; each file's own header must agree. Files may be over 4
/// GiB (zip64). Refused are compression, encryption, a comment at the end, and files that overlap
/// or have the same name. Checksums are ignored: torch.save has an option to leave them out.
/// Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
struct ZipArchive: Sendable {
  /// Size limit of a directory in bytes: over 150,000 files.
  static let directoryLimit = 16 << 20

  /// Length limit of a name in bytes; names are looked up once per tensor.
  static let nameLimit = 1024

  struct Entry: Hashable, Sendable {
    var name: String
    /// Range of the content, relative to the start of the archive.
    var range: Range<Int>
  }

  /// In their order in the archive.
  let entries: [Entry]
  private let positions: [UTF8Key: Int]

  init(_ content: Bytes) throws(PyTorchFailure) {
    let end: ZipEnd
    do { end = try ZipEnd(content) } catch { throw PyTorchFailure(nil, .zip(error)) }
    let headers = try ZipDirectory.headers(content, end)
    var entries: [Entry] = []
    var seen: Set<UTF8Key> = []
    var previous: (name: String, end: Int)?
    for header in headers.sorted(by: { $0.offset < $1.offset }) {
      do throws(ZipFault) {
        guard seen.insert(UTF8Key(header.name)).inserted else { throw .duplicateName }
        let (start, range) = try header.data(in: content, before: end.directory.lowerBound)
        if let previous, start < previous.end { throw .overlaps(previous.name) }
        previous = (header.name, range.upperBound)
        entries.append(Entry(name: header.name, range: range))
      } catch { throw PyTorchFailure(header.name, .zip(error)) }
    }
    var positions: [UTF8Key: Int] = [:]
    for (position, entry) in entries.enumerated() { positions[UTF8Key(entry.name)] = position }
    self.entries = entries
    self.positions = positions
  }

  /// Range of a file's content; nil without such a file.
  func range(of name: String) -> Range<Int>? {
    positions[UTF8Key(name)].map { entries[$0].range }
  }
}
