/// A range of bytes with shared ownership: of a mapped file, of an array, or of compressed codes
/// that each read decompresses.
public struct Bytes: Sendable {
  private enum Owner: Sendable {
    case file(MappedFile)
    case array([UInt8])
    case compressed(CompressedRows)
  }

  private let owner: Owner
  private let range: Range<Int>

  /// - Precondition: `range` lies inside the file.
  public init(_ file: MappedFile, _ range: Range<Int>) {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= file.count,
      "\(range) is outside the \(file.count) bytes of \(file.path)")
    owner = .file(file)
    self.range = range
  }

  public init(_ array: [UInt8]) {
    owner = .array(array)
    range = array.indices
  }

  public init(_ rows: CompressedRows) {
    owner = .compressed(rows)
    range = 0..<rows.rows * rows.columns
  }

  public var count: Int { range.count }

  /// Bytes of storage, which is less than `count` for compressed codes.
  public var storedCount: Int {
    if case .compressed(let rows) = owner, range.count == rows.rows * rows.columns {
      return rows.storedBytes
    }
    return count
  }

  /// Whether each read decompresses.
  var isCompressed: Bool {
    if case .compressed = owner { true } else { false }
  }

  /// Calls `body` with the bytes. A mapped file's bytes may lie at any alignment.
  public func withUnsafeBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    switch owner {
    case .file(let file):
      let span = file.bytes
      return try unsafe span.withUnsafeBytes { (all) throws(Failure) in
        try unsafe body(UnsafeRawBufferPointer(rebasing: all[range]))
      }
    case .array(let array):
      return try unsafe array.span.bytes.withUnsafeBytes { (all) throws(Failure) in
        try unsafe body(UnsafeRawBufferPointer(rebasing: all[range]))
      }
    case .compressed(let rows):
      return try unsafe rows.codes(range).span.bytes.withUnsafeBytes {
        (all) throws(Failure) in try unsafe body(all)
      }
    }
  }

  /// A subrange of the bytes, with the same owner.
  public subscript(part: Range<Int>) -> Bytes {
    precondition(part.lowerBound >= 0 && part.upperBound <= count, "\(part) of \(count) bytes")
    return Bytes(
      owner: owner, range: range.lowerBound + part.lowerBound..<range.lowerBound + part.upperBound)
  }

  private init(owner: Owner, range: Range<Int>) {
    self.owner = owner
    self.range = range
  }

  /// A copy.
  public var array: [UInt8] { unsafe withUnsafeBytes { unsafe Array($0) } }

  /// Gives mapped pages back to the system; no effect on an array.
  public func release() {
    if case .file(let file) = owner { file.release(range) }
  }

  /// The same for a few bytes; also gives back neighbouring pages that reading them mapped.
  public func releaseAround() {
    if case .file(let file) = owner { file.releaseAround(range) }
  }
}
