import NibbleFormats
import NibbleTensor

/// The bytes of a weight file with some tensors replaced by others of the same size.
struct ReplacedTensors: Sequence {
  let file: SafetensorsFile
  let content: Bytes
  let replaced: [String: [UInt8]]

  private static let piece = 8 << 20

  init(_ path: String, replacing replaced: [String: [UInt8]]) throws {
    file = try SafetensorsFile(path: path)
    let mapped = try MappedFile(path: path)
    content = Bytes(mapped, 0..<mapped.count)
    self.replaced = replaced
  }

  func makeIterator() -> AnyIterator<[UInt8]> {
    // Pieces of the file, and tensors in place of pieces.
    var parts: [(range: Range<Int>, name: String?)] = []
    func copy(_ range: Range<Int>) {
      for start in stride(from: range.lowerBound, to: range.upperBound, by: Self.piece) {
        parts.append((start..<Swift.min(start + Self.piece, range.upperBound), nil))
      }
    }
    var end = 0
    for entry in file.entries where replaced[entry.name]?.count == entry.range.count {
      copy(end..<entry.range.lowerBound)
      parts.append((entry.range, entry.name))
      end = entry.range.upperBound
    }
    copy(end..<content.count)
    return AnyIterator(
      parts.lazy.map { part in
        if let name = part.name, let bytes = replaced[name] { return bytes }
        let bytes = content[part.range]
        defer { bytes.release() }
        return bytes.array
      }.makeIterator())
  }
}
