import CNibble

extension QuantizedMatrix {
  /// Rounds each value to the nearest code, with scales from a search. Scales that rows share are
  /// not searched: they come from the extremes.
  ///
  /// - Parameters:
  ///   - weight: `[n, k]`, finite.
  ///   - importance: `[k]`, mean square of each input, which `shrink` weights errors with.
  ///   - moments: second moments of the inputs, which `clip` weights errors with.
  public init(
    nearest weight: FloatRows, to rounding: WeightRounding, importance: [Float]? = nil,
    moments: GramMatrix? = nil, on compute: Compute
  ) {
    let scheme = rounding.scheme
    let (n, k) = (weight.rows, weight.columns)
    guard !scheme.granularity.sharesRows else {
      self.init(rounding: weight, to: rounding, on: compute)
      return
    }
    let span = scheme.grid(outputs: n, inputs: k).columns
    let groups = k / span
    let finder = ScaleFinder(rounding) { weight.rowPeaks(on: compute).max() ?? 0 }
    let codeBytes = k * scheme.bits / 8
    var scales = [Float](repeating: 1, count: n * groups)
    var zeros = [Int8](repeating: 0, count: n * groups)
    var codes = [UInt8](repeating: 0, count: n * codeBytes)
    unsafe weight.values.withUnsafeBufferPointer { weight in
      unsafe withOptionalPointer(moments?.values, at: 0) { moments in
        unsafe withOptionalPointer(importance, at: 0) { importance in
          unsafe scales.withUnsafeMutableBufferPointer { scales in
            unsafe zeros.withUnsafeMutableBufferPointer { zeros in
              unsafe codes.withUnsafeMutableBytes { codes in
                compute.ranges(of: n, grain: 16) { part, _ in
                  for row in part {
                    for group in 0..<groups {
                      let first = group * span
                      let values = unsafe weight.baseAddress! + row * k + first
                      let (scale, zero) = unsafe finder.find(
                        values, span, importance: importance.map { unsafe $0 + first },
                        moments: moments.map { unsafe $0 + first * k + first }, stride: k)
                      unsafe scales[row * groups + group] = scale
                      unsafe zeros[row * groups + group] = Int8(zero)
                      unsafe RowRounding.write(
                        values, span,
                        codes.baseAddress! + row * codeBytes + first * scheme.bits / 8,
                        scale, zero, scheme)
                    }
                  }
                }
              }
            }
          }
        }
      }
    }
    self.init(
      scheme: scheme, rows: n, columns: k, codes: Bytes(codes), scales: scales,
      zeroPoints: scheme.hasZeroPoints ? zeros : [], scaleDivisor: finder.divisor)
  }

  /// Uses the scales that rows share; a value that overflowed counts as 0.
  private init(rounding weight: FloatRows, to rounding: WeightRounding, on compute: Compute) {
    let values = weight.values.map { $0.isFinite ? $0 : 0 }
    precondition(rounding.search == .extremes, "\(rounding.scheme) shares scales between rows")
    do {
      try self.init(
        rounding: FloatMatrix(
          format: .f32, rows: weight.rows, columns: weight.columns,
          bytes: Bytes(FloatFormat.f32.encode(values.span))),
        to: rounding.scheme, scaleFormat: rounding.scaleFormat, on: compute)
    } catch { preconditionFailure("value \(error.index) is not finite") }
  }
}
