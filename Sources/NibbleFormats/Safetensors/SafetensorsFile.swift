public import NibbleTensor

/// One safetensors file, mapped. The whole header is checked first.
///
/// Accepts what the reference (safetensors 0.8.0) accepts, except a duplicate name, which the
/// reference merges, and shapes with a zero whose other dimensions overflow.
public struct SafetensorsFile: Sendable {
  /// Longest header the format allows, in bytes.
  public static let headerLimit = 100_000_000

  public let path: String
  /// In offset order: back to back, from the end of the header to the end of the file.
  public let entries: [TensorEntry]
  public let metadata: [String: String]
  private let positions: [UTF8Key: Int]
  private let content: Bytes

  public init(path: String) throws(FormatError) {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw .file(error) }
    try self.init(parsing: Bytes(file, 0..<file.count), path: path)
  }

  /// - Parameter path: the name of `content` in errors.
  public init(parsing content: Bytes, path: String) throws(FormatError) {
    let header: SafetensorsHeader
    do { header = try SafetensorsHeader(content) } catch {
      throw .safetensors(path: path, tensor: error.tensor, error.fault)
    }
    self.path = path
    self.content = content
    entries = header.entries
    metadata = header.metadata
    var positions: [UTF8Key: Int] = [:]
    for (position, entry) in entries.enumerated() { positions[UTF8Key(entry.name)] = position }
    self.positions = positions
  }

  public func entry(_ name: String) -> TensorEntry? {
    positions[UTF8Key(name)].map { entries[$0] }
  }

  /// The data of a tensor, shared with the mapped file.
  public func bytes(of name: String) -> Bytes? {
    entry(name).map { content[$0.range] }
  }
}
