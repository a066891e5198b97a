/// The matrix of a linear layer, `[n, k]`, as stored. Products read it in place.
public enum Weight: Sendable {
  case float(FloatMatrix)
  /// Codes, and the rounding of the layer's inputs at run time; nil inputs stay float.
  case quantized(QuantizedMatrix, inputs: InputRounding?)

  /// Outputs `n`.
  public var rows: Int {
    switch self {
    case .float(let matrix): matrix.rows
    case .quantized(let matrix, _): matrix.rows
    }
  }

  /// Inputs `k`.
  public var columns: Int {
    switch self {
    case .float(let matrix): matrix.columns
    case .quantized(let matrix, _): matrix.columns
    }
  }

  /// Whether each product decompresses the codes.
  var isCompressed: Bool {
    if case .quantized(let matrix, _) = self { matrix.codes.isCompressed } else { false }
  }

  /// Some rows as floats, `[rows, k]`.
  public func values(of part: Range<Int>) -> [Float] {
    unsafe [Float](unsafeUninitializedCapacity: part.count * columns) { values, initialized in
      if part.count * columns > 0 { unsafe widen(part, into: values.baseAddress!) }
      initialized = part.count * columns
    }.inOrder(inputOrder)
  }

  /// ``QuantizedMatrix/inputOrder``; empty for floats.
  var inputOrder: [Int32] {
    if case .quantized(let matrix, _) = self { matrix.inputOrder } else { [] }
  }

  /// Some rows as floats, with their columns in the order of the codes. With `unscaled`, per-row scales are left to the caller.
  func widen(
    _ part: Range<Int>, into values: UnsafeMutablePointer<Float>, unscaled: Bool = false
  ) {
    switch self {
    case .float(let matrix):
      let start = part.lowerBound * matrix.rowBytes
      unsafe matrix.bytes.withUnsafeBytes {
        unsafe matrix.format.widen(
          $0.baseAddress! + start, into: values, count: part.count * columns)
      }
    case .quantized(let matrix, _): unsafe matrix.decode(part, into: values, unscaled: unscaled)
    }
  }

  /// Gives the mapped pages of one float row, read by itself, back to the system.
  public func release(row: Int) {
    if case .float(let matrix) = self { matrix.release(row: row) }
  }

  /// Gives mapped pages back to the system.
  public func release() {
    switch self {
    case .float(let matrix): matrix.bytes.release()
    case .quantized(let matrix, _): matrix.codes.release()
    }
  }
}
