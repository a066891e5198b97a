/// A weight `[n, k]` as codes and the scales that dequantize them.
public struct QuantizedMatrix: Sendable {
  public let scheme: WeightScheme
  /// Outputs `n`.
  public let rows: Int
  /// Inputs `k`.
  public let columns: Int
  /// One byte per code, `[n, k]`. Codes of 4 bits: two per byte, the first in the low nibble, `[n, k /
  /// 2]`; integers are stored as code + 8.
  public let codes: Bytes
  /// One per rectangle of `grid`; above zero, or zero for a group of zeros.
  public let scales: [Float]
  /// What E4M3 scales are divided by; 1 for other scales. Above zero.
  public let scaleDivisor: Float
  /// One per scale; empty when the scheme is symmetric.
  public let zeroPoints: [Int8]
  /// Added to the values, one per scale; empty when the format has none. Inputs of such a weight
  /// are float or int8.
  public let offsets: [Float]
  /// The input that each column of codes belongs to, for codes in another order than the inputs':
  /// GPTQ's `desc_act`. Empty when the orders are equal. Products gather their inputs first.
  public let inputOrder: [Int32]
  /// The value of each code, for formats that are looked up.
  let table: [Float]

  /// - Precondition: the counts fit the scheme and the shape, and `inputOrder` is empty or a
  ///   permutation of the inputs.
  public init(
    scheme: WeightScheme, rows: Int, columns: Int, codes: Bytes, scales: [Float],
    zeroPoints: [Int8] = [], offsets: [Float] = [], inputOrder: [Int32] = [],
    scaleDivisor: Float = 1
  ) {
    precondition(
      scheme.fits(outputs: rows, inputs: columns), "[\(rows), \(columns)] does not fit \(scheme)")
    let scaleCount = scheme.grid(outputs: rows, inputs: columns).count
    precondition(
      codes.count == rows * columns * scheme.bits / 8,
      "\(codes.count) bytes of codes for [\(rows), \(columns)], \(scheme)")
    precondition(scales.count == scaleCount, "\(scales.count) scales, not \(scaleCount)")
    precondition(
      zeroPoints.count == (scheme.hasZeroPoints ? scaleCount : 0),
      "\(zeroPoints.count) zero points for \(scaleCount) scales")
    precondition(
      inputOrder.isEmpty
        || inputOrder.count == columns && Set(inputOrder).count == columns
          && inputOrder.allSatisfy { (0..<columns).contains(Int($0)) },
      "\(inputOrder.count) inputs are no order of \(columns)")
    precondition(
      offsets.count == (scheme.format.hasOffsets ? scaleCount : 0),
      "\(offsets.count) offsets for \(scaleCount) scales")
    self.scheme = scheme
    self.rows = rows
    self.columns = columns
    self.codes = codes
    self.scales = scales
    self.zeroPoints = zeroPoints
    self.offsets = offsets
    self.inputOrder = inputOrder
    self.scaleDivisor = scaleDivisor
    table = scheme.format.numbers.table
  }

  /// Which values share a scale.
  public var grid: ScaleGrid { scheme.grid(outputs: rows, inputs: columns) }

  /// Some rows, with the same codes in memory; shared scales are repeated per row.
  func rows(_ part: Range<Int>) -> Self {
    if part == 0..<rows { return self }
    let perRow = grid.perRow
    if scheme.granularity.sharesRows {
      let grid = grid
      let scheme = WeightScheme(
        format: scheme.format,
        granularity: perRow == 1 ? .channel : .group(grid.columns))
      let indices = part.flatMap { row in (0..<perRow).map { grid.index(row: row) + $0 } }
      return Self(
        scheme: scheme, rows: part.count, columns: columns, codes: codes(of: part),
        scales: indices.map { scales[$0] }, inputOrder: inputOrder)
    }
    let range = part.lowerBound * perRow..<part.upperBound * perRow
    return Self(
      scheme: scheme, rows: part.count, columns: columns, codes: codes(of: part),
      scales: Array(scales[range]), zeroPoints: zeroPoints.isEmpty ? [] : Array(zeroPoints[range]),
      offsets: offsets.isEmpty ? [] : Array(offsets[range]), inputOrder: inputOrder,
      scaleDivisor: scaleDivisor)
  }

  /// The codes of some rows.
  func codes(of part: Range<Int>) -> Bytes {
    let rowBytes = columns * scheme.bits / 8
    return codes[part.lowerBound * rowBytes..<part.upperBound * rowBytes]
  }
}
