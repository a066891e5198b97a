import NibbleFormats
import NibbleTensor

/// The records of a JSON file, in order: one per line, or an array of them.
struct RecordFile {
  enum Kind {
    case text
    case lines
    case document

    /// Chosen by file extension; refuses extensions of files that are neither text nor JSON.
    init(path: String) throws(CalibrationTextError) {
      let binary = ["parquet", "arrow", "gz", "zst", "zip", "xz", "bz2"]
      switch path.lowercased().split(separator: ".").last.map(String.init) {
      case "jsonl", "ndjson": self = .lines
      case "json": self = .document
      case let ending? where binary.contains(ending): throw .format(path: path, kind: ".\(ending)")
      default: self = .text
      }
    }
  }

  /// Size limits in bytes: of JSON lines, and of one JSON document, which is held in memory as
  /// values.
  static let lineLimit = 1 << 30
  static let documentLimit = 256 << 20

  let path: String
  private let kind: Kind
  private let bytes: [UInt8]
  private let isRecord: (JSON) -> Bool

  /// - Parameter isRecord: whether a single object is a record; otherwise it holds a list of them.
  init(path: String, isRecord: @escaping (JSON) -> Bool) throws(CalibrationTextError) {
    self.path = path
    self.isRecord = isRecord
    let named = try Kind(path: path)
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw .file(error) }
    guard file.count <= Self.lineLimit else {
      throw .tooLarge(path: path, bytes: file.count, limit: Self.lineLimit)
    }
    var content = Bytes(file, 0..<file.count).array
    if content.starts(with: [0xEF, 0xBB, 0xBF]) { content.removeFirst(3) }
    if content.starts(with: Array("PAR1".utf8)) { throw .format(path: path, kind: ".parquet") }
    bytes = content
    // Many files called .json hold JSON lines.
    kind = named == .document && Self.startsWithALineOfItsOwn(content) ? .lines : named
    guard kind == .lines || content.count <= Self.documentLimit else {
      throw .tooLarge(path: path, bytes: content.count, limit: Self.documentLimit)
    }
  }

  private static func startsWithALineOfItsOwn(_ bytes: [UInt8]) -> Bool {
    guard let end = bytes.firstIndex(of: 0x0A), end <= documentLimit,
      (try? JSON(parsing: Array(bytes[..<end])))?.object != nil
    else { return false }
    return bytes[end...].contains { !isSpace($0) }
  }

  private static func isSpace(_ byte: UInt8) -> Bool { [0x20, 0x09, 0x0A, 0x0D].contains(byte) }

  func visit(
    _ body: (RecordPlace, JSON) throws(CalibrationTextError) -> Void
  ) throws(CalibrationTextError) {
    if kind == .lines { return try visitLines(body) }
    for (index, record) in try documentRecords().enumerated() {
      try body(.record(index + 1), record)
    }
  }

  private func visitLines(
    _ body: (RecordPlace, JSON) throws(CalibrationTextError) -> Void
  ) throws(CalibrationTextError) {
    var (start, number) = (0, 1)
    while start < bytes.count {
      let end = bytes[start...].firstIndex(of: 0x0A) ?? bytes.count
      let line = Array(bytes[start..<end])
      if !line.allSatisfy(Self.isSpace) {
        let record: JSON
        do { record = try JSON(parsing: line) } catch {
          throw .record(path: path, .line(number), .json(error))
        }
        try body(.line(number), record)
      }
      start = end + 1
      number += 1
    }
  }

  private func documentRecords() throws(CalibrationTextError) -> [JSON] {
    let document: JSON
    do { document = try JSON(parsing: bytes) } catch {
      let before = bytes.prefix(error.byte)
      let line = before.count { $0 == 0x0A } + 1
      let start = before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
      var inLine = error
      inLine.byte -= start
      throw .record(path: path, .line(line), .json(inLine))
    }
    if let records = document.array { return records }
    guard let object = document.object else {
      throw .noRecords(path: path, found: document.kind)
    }
    if isRecord(document) { return [document] }
    let lists = object.filter { _, value in
      value.array?.first.map { $0.object != nil || $0.string != nil } ?? false
    }
    guard lists.count == 1, let records = lists[0].1.array else {
      let names = lists.prefix(4).map { "\"\(shown($0.0))\"" }.joined(separator: ", ")
      throw .noRecords(
        path: path,
        found: lists.isEmpty ? "an object without a list" : "an object with the lists \(names)")
    }
    return records
  }
}
