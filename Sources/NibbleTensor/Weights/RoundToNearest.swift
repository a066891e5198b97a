import CNibble

/// A value that is not a finite number where only finite numbers make sense.
public struct NonFinite: Error, Hashable, Sendable {
  /// Where, in the row-major matrix or the vector.
  public var index: Int

  public init(index: Int) { self.index = index }
}

extension QuantizedMatrix {
  /// Rounds a float weight `[n, k]` to codes, each value to the nearest.
  ///
  /// int symmetric: `scale = absmax / (2^bits - 1) * 2`, `code = clamp(x / scale)` rounded half to
  /// even, codes in `-2^(bits-1)...2^(bits-1)-1`. int asymmetric: the range is widened to hold 0,
  /// `scale = (max - min) / (2^bits - 1)`, `zero = round(-2^(bits-1) - min / scale)`. fp8:
  /// `scale = absmax / 448`. A group of zeros has scale 1. Codes are computed with the scale as it is
  /// stored. Source: compressed-tensors 0.20 `calculate_qparams`, in float instead of the weight's
  /// format.
  ///
  /// - Parameters:
  ///   - scaleFormat: what scales are rounded to before codes are computed.
  ///   - Throws: `NonFinite` at the first value that is infinite or not a number.
  public init(
    rounding weight: FloatMatrix, to scheme: WeightScheme, scaleFormat: FloatFormat,
    on compute: Compute
  ) throws(NonFinite) {
    let (n, k) = (weight.rows, weight.columns)
    precondition(scheme.fits(inputs: k), "\(k) inputs do not fit \(scheme)")
    let groups = scheme.scalesPerRow(inputs: k)
    var shared: Float?
    if scheme.granularity == .tensor {
      var peak: Float = 0
      for row in 0..<n {
        let values = weight.row(row)
        peak = max(peak, try Self.absmax(values.span, base: row * k))
      }
      shared = RowRounding.scale(peak / scheme.largestCode, scaleFormat)
    }
    let rows = RowRounding(
      scheme: scheme, columns: k, sharedScale: shared, scaleFormat: scaleFormat)
    let scaleCount = scheme.granularity == .tensor ? 1 : n * groups
    var codes = [UInt8](repeating: 0, count: n * rows.codeBytes)
    var scales = [Float](repeating: shared ?? 1, count: scaleCount)
    var zeros = [Int8](repeating: 0, count: scheme.hasZeroPoints ? scaleCount : 0)
    let grain = 32
    var failures = [Int?](repeating: nil, count: (n + grain - 1) / grain)
    unsafe codes.withUnsafeMutableBytes { codes in
      unsafe scales.withUnsafeMutableBufferPointer { scales in
        unsafe zeros.withUnsafeMutableBufferPointer { zeros in
          unsafe failures.withUnsafeMutableBufferPointer { failures in
            compute.ranges(of: n, grain: grain) { part, _ in
              let values = weight.values(of: part)
              unsafe values.withUnsafeBufferPointer { values in
                for row in part {
                  let failed = unsafe rows.round(
                    values.baseAddress! + (row - part.lowerBound) * k,
                    into: codes.baseAddress! + row * rows.codeBytes,
                    scales: shared == nil ? scales.baseAddress! + row * groups : nil,
                    zeros: scheme.hasZeroPoints ? zeros.baseAddress! + row * groups : nil)
                  if let failed, unsafe failures[part.lowerBound / grain] == nil {
                    unsafe failures[part.lowerBound / grain] = row * k + failed
                  }
                }
              }
            }
          }
        }
      }
    }
    if let index = failures.compactMap(\.self).min() { throw NonFinite(index: index) }
    self.init(
      scheme: scheme, rows: n, columns: k, codes: Bytes(codes), scales: scales, zeroPoints: zeros)
  }

  private static func absmax(_ values: Span<Float>, base: Int) throws(NonFinite) -> Float {
    let peak = unsafe values.withUnsafeBufferPointer {
      unsafe $0.baseAddress.map { unsafe nibble_absmax($0, values.count) } ?? 0
    }
    guard peak.isFinite else {
      throw NonFinite(index: base + (values.indices.first { !values[$0].isFinite } ?? 0))
    }
    return peak
  }
}
