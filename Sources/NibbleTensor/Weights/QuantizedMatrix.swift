/// A weight `[n, k]` as codes and the scales that multiply them back.
public struct QuantizedMatrix: Sendable {
  public let scheme: WeightScheme
  /// Outputs `n`.
  public let rows: Int
  /// Inputs `k`.
  public let columns: Int
  /// int8 and fp8: one byte a code, `[n, k]`. int4: two codes a byte, the first in the low nibble,
  /// stored as code + 8, `[n, k / 2]`.
  public let codes: Bytes
  /// `[n, g]`, or one value per tensor; above zero.
  public let scales: [Float]
  /// `[n, g]`; empty when the scheme is symmetric.
  public let zeroPoints: [Int8]

  /// - Precondition: the counts fit the scheme and the shape.
  public init(
    scheme: WeightScheme, rows: Int, columns: Int, codes: Bytes, scales: [Float],
    zeroPoints: [Int8] = []
  ) {
    let groups = scheme.scalesPerRow(inputs: columns)
    let scaleCount = scheme.granularity == .tensor ? 1 : rows * groups
    precondition(scheme.fits(inputs: columns), "\(columns) inputs do not fit \(scheme)")
    precondition(
      codes.count == rows * columns * scheme.bits / 8,
      "\(codes.count) bytes of codes for [\(rows), \(columns)], \(scheme)")
    precondition(scales.count == scaleCount, "\(scales.count) scales, not \(scaleCount)")
    precondition(
      zeroPoints.count == (scheme.hasZeroPoints ? scaleCount : 0),
      "\(zeroPoints.count) zero points for \(scaleCount) scales")
    self.scheme = scheme
    self.rows = rows
    self.columns = columns
    self.codes = codes
    self.scales = scales
    self.zeroPoints = zeroPoints
  }

  /// Scale of each output when one scale serves the whole row; nil with groups.
  var rowScales: [Float]? {
    switch scheme.granularity {
    case .tensor: Array(repeating: scales[0], count: rows)
    case .channel: scales
    case .group: nil
    }
  }
}
