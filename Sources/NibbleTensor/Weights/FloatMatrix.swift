/// A weight `[n, k]` in a float format, mapped or owned.
public struct FloatMatrix: Sendable {
  public let format: FloatFormat
  public let rows: Int
  public let columns: Int
  public let bytes: Bytes

  /// - Precondition: `bytes` holds `rows * columns` values.
  public init(format: FloatFormat, rows: Int, columns: Int, bytes: Bytes) {
    precondition(
      bytes.count == rows * columns * format.bytesPerValue,
      "\(bytes.count) bytes for [\(rows), \(columns)] of \(format)")
    self.format = format
    self.rows = rows
    self.columns = columns
    self.bytes = bytes
  }

  /// Some rows as floats, `[rows, k]`.
  public func values(of part: Range<Int>) -> [Float] {
    format.decode(bytes[part.lowerBound * rowBytes..<part.upperBound * rowBytes])
  }

  /// One row as floats, `[k]`.
  public func row(_ row: Int) -> [Float] { values(of: row..<row + 1) }

  public var rowBytes: Int { columns * format.bytesPerValue }
}
