import NibbleTensor

/// The files of a ZIP archive that stores them as they are, as torch.save does.
///
/// The directory at the end says what there is; each file's own header must agree. Files may be over
/// 4 GiB (zip64). Refused are compression, encryption, comments at the end, and files that overlap or
/// have one name. Checksums are not looked at: torch.save can be told to leave them out.
/// Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
struct ZipArchive: Sendable {
  /// Most bytes of a directory: over 150,000 files.
  static let directoryLimit = 16 << 20

  /// Most bytes of a name, which is looked up once for each tensor.
  static let nameLimit = 1024

  struct Entry: Hashable, Sendable {
    var name: String
    /// Where the content lies, counted from the start of the archive.
    var range: Range<Int>
  }

  /// In the order in which they lie.
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

  /// Where the content of a file lies.
  func range(of name: String) -> Range<Int>? {
    positions[UTF8Key(name)].map { entries[$0].range }
  }
}
