public import NibbleTensor

/// One tensor of a GGUF file, as the header describes it.
public struct GGUFTensor: Hashable, Sendable {
  public var name: String
  public var type: GGMLType
  /// In Hugging Face order, `[n, k]` for a linear weight: the reverse of the file's. At most four
  /// dimensions; the last one consists of whole blocks.
  public var shape: [Int]
  /// Byte range of the data in the file.
  public var range: Range<Int>

  public init(name: String, type: GGMLType, shape: [Int], range: Range<Int>) {
    self.name = name
    self.type = type
    self.shape = shape
    self.range = range
  }

  public var elementCount: Int { shape.reduce(1, *) }
  /// `k`: elements per row, 1 for a scalar.
  public var rowLength: Int { shape.last ?? 1 }
  public var rowCount: Int { shape.dropLast().reduce(1, *) }
}

/// One GGUF file, version 2 or 3, little-endian, mapped. The whole header is checked first.
public struct GGUFFile: Sendable {
  public let path: String
  /// In the file's order.
  public let keys: [String]
  public let metadata: [String: GGUFValue]
  /// In the file's order. Their data may have gaps between them but do not overlap.
  public let tensors: [GGUFTensor]
  private let positions: [UTF8Key: Int]
  private let content: Bytes

  public init(path: String) throws(FormatError) {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw .file(error) }
    try self.init(parsing: Bytes(file, 0..<file.count), path: path)
  }

  /// - Parameter path: the name of `content` in errors.
  public init(parsing content: Bytes, path: String) throws(FormatError) {
    let header: GGUFHeader
    do {
      header = try unsafe content.withUnsafeBytes { (buffer) throws(GGUFHeader.Failure) in
        // The span does not outlive the closure that lends the buffer.
        try GGUFHeader(unsafe buffer.assumingMemoryBound(to: UInt8.self).span)
      }
    } catch { throw .gguf(path: path, name: error.name, byte: error.byte, error.fault) }
    self.path = path
    self.content = content
    keys = header.keys
    metadata = header.metadata
    tensors = header.tensors
    var positions: [UTF8Key: Int] = [:]
    for (position, tensor) in tensors.enumerated() { positions[UTF8Key(tensor.name)] = position }
    self.positions = positions
  }

  public func tensor(_ name: String) -> GGUFTensor? {
    positions[UTF8Key(name)].map { tensors[$0] }
  }

  /// The data of a tensor of this file, shared with the mapped file.
  public func bytes(of tensor: GGUFTensor) -> Bytes { content[tensor.range] }

  /// The stored bytes of one row of a tensor of this file.
  public func storedRow(_ row: Int, of tensor: GGUFTensor) -> [UInt8] {
    let rowBytes = tensor.type.byteCount(tensor.rowLength)
    return bytes(of: tensor)[row * rowBytes..<(row + 1) * rowBytes].array
  }

  /// The values of some rows of a tensor of this file.
  ///
  /// - Parameter values: `[rows, k]`, overwritten.
  public func decode(
    rows: Range<Int>, of tensor: GGUFTensor, into values: inout MutableSpan<Float>
  ) throws(FormatError) {
    precondition(
      rows.lowerBound >= 0 && rows.upperBound <= tensor.rowCount,
      "rows \(rows) of \(tensor.rowCount) in \(tensor.name)")
    let rowBytes = tensor.type.byteCount(tensor.rowLength)
    let part = bytes(of: tensor)[rows.lowerBound * rowBytes..<rows.upperBound * rowBytes]
    try unsafe part.withUnsafeBytes { (buffer) throws(FormatError) in
      // The span does not outlive the closure that lends the buffer.
      try NibbleFormats.decode(
        tensor.type, unsafe buffer.assumingMemoryBound(to: UInt8.self).span, into: &values)
    }
  }
}
