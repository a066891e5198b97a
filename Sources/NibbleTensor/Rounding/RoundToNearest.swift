import CNibble

/// NaN or infinity where only finite numbers are allowed.
public struct NonFinite: Error, Hashable, Sendable {
  /// Index of the value in the row-major matrix or the vector.
  public var index: Int

  public init(index: Int) { self.index = index }
}

extension QuantizedMatrix {
  /// Rounds a float weight `[n, k]` to codes, each value to the nearest.
  ///
  /// int symmetric: `scale = absmax / (2^bits - 1) * 2`, `code = clamp(x / scale)` rounded half to
  /// even, codes in `-2^(bits-1)...2^(bits-1)-1`; groups of rows have `scale = absmax / 2^(bits-1)`.
  /// int asymmetric: the range is widened to hold 0, `scale = (max - min) / (2^bits - 1)`,
  /// `zero = round(-2^(bits-1) - min / scale)`. fp8: `scale = absmax / 448`. A group of zeros has
  /// scale 1. Codes are computed with the scale as it is stored. Other formats, and scales that are
  /// stored as codes: ``NumberFormat``, ``ScaleSearch``. Sources: compressed-tensors 0.20
  /// `calculate_qparams`, in float instead of the weight's format; for groups of rows DeepSpeed's
  /// `SymQuantizer`, which divides by zero in a group of zeros.
  ///
  /// - Parameters:
  ///   - scaleFormat: what scales are rounded to before codes are computed.
  ///   - sharedPeak: largest magnitude of all weights that share a scale of the whole weight;
  ///     ignored by schemes without one.
  ///   - search: how scales that are stored as codes are found; others come from the extremes.
  ///   - releases: whether the mapped pages of rows go back to the system as soon as they are rounded.
  /// - Throws: `NonFinite` at the first value that is infinite or not a number.
  public init(
    rounding weight: FloatMatrix, to scheme: WeightScheme, scaleFormat: FloatFormat,
    sharedPeak: Float = 0, search: ScaleSearch = .extremes, releasing releases: Bool = false,
    on compute: Compute
  ) throws(NonFinite) {
    let (n, k) = (weight.rows, weight.columns)
    precondition(scheme.fits(outputs: n, inputs: k), "[\(n), \(k)] does not fit \(scheme)")
    let finder = ScaleFinder(
      WeightRounding(
        scheme: scheme, scaleFormat: scaleFormat, search: search, sharedPeak: sharedPeak)
    ) { weight.peak(on: compute) }
    let rows = RowRounding(finder, rows: n, columns: k)
    let grid = rows.grid
    var codes = [UInt8](repeating: 0, count: n * rows.codeBytes)
    var scales =
      rows.sharesScales
      ? try Self.sharedScales(
        weight, rows, atLeast: scheme.granularity == .tensor ? sharedPeak : 0, on: compute)
      : [Float](repeating: 1, count: grid.count)
    var zeros = [Int8](repeating: 0, count: scheme.hasZeroPoints ? grid.count : 0)
    let failure = unsafe codes.withUnsafeMutableBytes { codes in
      unsafe scales.withUnsafeMutableBufferPointer { scales in
        unsafe zeros.withUnsafeMutableBufferPointer { zeros in
          unsafe Self.forEachRow(of: weight, releasing: releases, on: compute) { row, values in
            let index = grid.index(row: row)
            return unsafe rows.round(
              values, into: codes.baseAddress! + row * rows.codeBytes,
              scales: scales.baseAddress! + index,
              zeros: scheme.hasZeroPoints ? zeros.baseAddress! + index : nil)
          }
        }
      }
    }
    if let failure { throw NonFinite(index: failure) }
    // The mapped page at the border of two slices is released only here.
    if releases { weight.bytes.release() }
    self.init(
      scheme: scheme, rows: n, columns: k, codes: Bytes(codes), scales: scales, zeroPoints: zeros,
      scaleDivisor: finder.divisor)
  }

  /// The scale of each rectangle of several rows, from its largest magnitude.
  private static func sharedScales(
    _ weight: FloatMatrix, _ rows: RowRounding, atLeast least: Float, on compute: Compute
  ) throws(NonFinite) -> [Float] {
    let grid = rows.grid
    var peaks = [Float](repeating: 0, count: weight.rows * grid.perRow)
    let failure = unsafe peaks.withUnsafeMutableBufferPointer { peaks in
      unsafe forEachRow(of: weight, on: compute) { row, values in
        unsafe rows.measure(values, into: peaks.baseAddress! + row * grid.perRow)
      }
    }
    if let failure { throw NonFinite(index: failure) }
    var scales = [Float](repeating: least, count: grid.count)
    for (index, peak) in peaks.enumerated() {
      let at = grid.index(row: index / grid.perRow) + index % grid.perRow
      scales[at] = max(scales[at], peak)
    }
    return scales.map { rows.scale(peak: $0) }
  }

  /// Calls `body` with each row as floats; `body` returns the index of a non-finite value in the
  /// row, or nil.
  ///
  /// - Returns: the first such index in the matrix.
  private static func forEachRow(
    of weight: FloatMatrix, releasing releases: Bool = false, on compute: Compute,
    _ body: (_ row: Int, _ values: UnsafePointer<Float>) -> Int?
  ) -> Int? {
    let grain = 32
    let k = weight.columns
    var failures = [Int?](repeating: nil, count: (weight.rows + grain - 1) / grain)
    unsafe failures.withUnsafeMutableBufferPointer { failures in
      compute.ranges(of: weight.rows, grain: grain) { part, _ in
        let values = weight.values(of: part)
        if releases { weight.release(part) }
        unsafe values.withUnsafeBufferPointer { values in
          for row in part {
            let failed = unsafe body(row, values.baseAddress! + (row - part.lowerBound) * k)
            if let failed, unsafe failures[part.lowerBound / grain] == nil {
              unsafe failures[part.lowerBound / grain] = row * k + failed
            }
          }
        }
      }
    }
    return failures.compactMap(\.self).min()
  }
}
