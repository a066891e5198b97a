import CNibble

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

  /// Gives the mapped pages of some rows back to the system.
  public func release(_ part: Range<Int>) {
    bytes[part.lowerBound * rowBytes..<part.upperBound * rowBytes].release()
  }

  /// The same for one row that was read by itself.
  public func release(row: Int) {
    bytes[row * rowBytes..<(row + 1) * rowBytes].releaseAround()
  }

  /// One row as floats, `[k]`.
  public func row(_ row: Int) -> [Float] { values(of: row..<row + 1) }

  public var rowBytes: Int { columns * format.bytesPerValue }

  /// Largest magnitude; not finite when any value is not.
  public func peak(on compute: Compute) -> Float {
    var peaks = [Float](repeating: 0, count: (rows + 31) / 32)
    unsafe peaks.withUnsafeMutableBufferPointer { peaks in
      compute.ranges(of: rows, grain: 32) { part, _ in
        let values = values(of: part)
        unsafe values.withUnsafeBufferPointer {
          unsafe peaks[part.lowerBound / 32] = nibble_absmax($0.baseAddress!, values.count)
        }
      }
    }
    return peaks.reduce(0) { $0 > $1 || $0.isNaN ? $0 : $1 }
  }
}
