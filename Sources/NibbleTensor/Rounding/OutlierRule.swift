import CNibble

/// Decides which values of a weight are outliers. Outliers do not influence the scale of their row.
///
/// `scale = max|w| of the row's other values / bulkCode`. Outliers are rounded with the same scale,
/// clamped to ±127. If all other values are zero, `scale = absmax / 127`; a row of zeros has scale
/// 1. Source: msmodelslim 26.1.0, by experiment on its binaries, which leave such rows at zero.
public enum OutlierRule: Hashable, Sendable, Codable {
  /// No outliers: `scale = absmax / 127`.
  case none
  /// `|w| > factor · deviation(|row|)`, with the unbiased standard deviation around the mean.
  case rowDeviation(Double)
  /// `|w|` above the k-th largest of its row, `k = floor(share · inputs)`.
  case rowShare(Double)
  /// `|w|` above the k-th largest of the weight, `k = floor(share · outputs · inputs)`.
  case tensorShare(Double)

  /// Largest code of values that are not outliers.
  public var bulkCode: Float { self == .none ? 127 : 7 }
}

extension OutlierRule {
  /// The scale of each row, `[n]`, and the number of outliers.
  public func scales(of weight: FloatRows, on compute: Compute) -> (scales: [Float], outliers: Int)
  {
    let k = weight.columns
    let shared: Float? =
      if case .tensorShare(let share) = self {
        Self.ranked(weight.values[...], Int(share * Double(weight.values.count)))
      } else {
        nil
      }
    var scales = [Float](repeating: 1, count: weight.rows)
    var counts = [Int](repeating: 0, count: weight.rows)
    unsafe scales.withUnsafeMutableBufferPointer { scales in
      unsafe counts.withUnsafeMutableBufferPointer { counts in
        compute.ranges(of: weight.rows, grain: 16) { part, _ in
          for row in part {
            let values = weight.values[row * k..<(row + 1) * k]
            let (scale, count) = rowScale(values, threshold: shared ?? threshold(values))
            unsafe scales[row] = scale
            unsafe counts[row] = count
          }
        }
      }
    }
    return (scales, counts.reduce(0, +))
  }

  private func rowScale(_ row: ArraySlice<Float>, threshold: Float) -> (Float, Int) {
    var (bulk, peak): (Float, Float) = (0, 0)
    var outliers = 0
    for value in row {
      let size = abs(value)
      peak = max(peak, size)
      if size > threshold { outliers += 1 } else { bulk = max(bulk, size) }
    }
    let scale = bulk > 0 ? bulk / bulkCode : peak / 127
    return (scale > 0 ? max(scale, .leastNormalMagnitude) : 1, outliers)
  }

  private func threshold(_ row: ArraySlice<Float>) -> Float {
    switch self {
    case .none, .tensorShare: return .infinity
    case .rowDeviation(let factor):
      let count = Double(row.count)
      let mean = row.reduce(0.0) { $0 + Double(abs($1)) } / count
      let squares = row.reduce(0.0) { sum, value in
        let difference = Double(abs(value)) - mean
        return sum + difference * difference
      }
      return Float(factor) * Float((squares / max(1, count - 1)).squareRoot())
    case .rowShare(let share): return Self.ranked(row, Int(share * Double(row.count)))
    }
  }

  /// The k-th largest magnitude, the largest for k = 0. Found by counting the upper 16 bits, then
  /// the lower 16.
  private static func ranked(_ values: ArraySlice<Float>, _ k: Int) -> Float {
    var left = min(max(k, 1), values.count)
    if values.count <= 4096 { return values.map(abs).sorted(by: >)[left - 1] }
    var counts = [Int](repeating: 0, count: 1 << 16)
    for value in values { counts[Int(abs(value).bitPattern >> 16)] += 1 }
    let upper = Self.rank(counts, &left)
    counts = [Int](repeating: 0, count: 1 << 16)
    for value in values where Int(abs(value).bitPattern >> 16) == upper {
      counts[Int(value.bitPattern & 0xFFFF)] += 1
    }
    return Float(bitPattern: UInt32(upper) << 16 | UInt32(Self.rank(counts, &left)))
  }

  /// The bin that holds the `left`-th largest value; `left` becomes the value's rank within that
  /// bin.
  private static func rank(_ counts: [Int], _ left: inout Int) -> Int {
    for bin in counts.indices.reversed() {
      if counts[bin] >= left { return bin }
      left -= counts[bin]
    }
    return 0
  }
}

extension QuantizedMatrix {
  /// Rounds a weight to int8 codes of -127...127 with one scale per row.
  ///
  /// `code = clamp(round(w / scale), -127, 127)`, half to even.
  ///
  /// - Parameters:
  ///   - weight: `[n, k]`, finite.
  ///   - scales: `[n]`, above zero.
  public init(narrow weight: FloatRows, scales: [Float], on compute: Compute) {
    let (n, k) = (weight.rows, weight.columns)
    precondition(scales.count == n, "\(scales.count) scales for \(n) rows")
    var codes = [UInt8](repeating: 0, count: n * k)
    unsafe codes.withUnsafeMutableBytes { codes in
      let codes = unsafe codes.baseAddress!.assumingMemoryBound(to: Int8.self)
      unsafe weight.values.withUnsafeBufferPointer { values in
        compute.ranges(of: n, grain: 16) { part, _ in
          for row in part {
            unsafe nibble_round_int(
              values.baseAddress! + row * k, codes + row * k, k, scales[row], 0, -127, 127)
          }
        }
      }
    }
    self.init(
      scheme: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel),
      rows: n, columns: k, codes: Bytes(codes), scales: scales)
  }
}
