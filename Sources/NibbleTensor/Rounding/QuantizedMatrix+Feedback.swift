import CNibble
import COneDNN

extension QuantizedMatrix {
  /// Quantizes `W` `[n, k]` to `Q` with error feedback, so that `tr((W - Q) H (W - Q)ᵀ)` is small.
  /// Columns are rounded in order; each one's target is shifted to compensate the errors of the
  /// columns before it.
  ///
  /// With `H = R Rᵀ`, the target of column j is `w_j + (Σ_{i<j} e_i R_ij) / R_jj`. The scales of a
  /// group are computed from its targets when it is reached; the scale of a channel is computed
  /// from the weight. With `order`, groups keep their original columns and take their scales from
  /// the weight.
  /// Source: GPTQ, arXiv 2210.17323, algorithm 1, in the equivalent form of Babai's nearest plane.
  ///
  /// - Parameters:
  ///   - weight: `[n, k]`, finite.
  ///   - factor: `R` of H, with its rows and columns in `order`.
  ///   - order: the columns in the order of rounding; nil for their own order.
  ///   - given: one scale per row, for int8 channels without zero points; codes are then in
  ///     -127...127. Nil: scales are computed.
  public init(
    feedback weight: FloatRows, to rounding: WeightRounding, factor: UpperFactor,
    order: [Int]? = nil, scales given: [Float]? = nil, on compute: Compute
  ) {
    let scheme = rounding.scheme
    let (n, k) = (weight.rows, weight.columns)
    precondition(factor.size == k, "a factor of \(factor.size) for \(k) columns")
    precondition(scheme.granularity != .tensor, "a scale of the whole tensor has no row order")
    let finder = ScaleFinder(rounding) { weight.rowPeaks(on: compute).max() ?? 0 }
    let span = scheme.grid(outputs: n, inputs: k).columns
    let groups = k / span
    precondition(
      given.map { $0.count == n * groups && !scheme.hasZeroPoints } ?? true,
      "\(given?.count ?? 0) scales given for \(n) rows, \(scheme)")
    var scales = given ?? [Float](repeating: 1, count: n * groups)
    var zeros = [Int8](repeating: 0, count: n * groups)
    var codes = [Int8](repeating: 0, count: n * k)
    // Cost of a unit of error in each column's target.
    var importance = [Float](repeating: 0, count: k)
    for j in 0..<k {
      let r = factor.values[j * k + j]
      importance[order?[j] ?? j] = r * r
    }
    let findsInOrder = order == nil && groups > 1
    let block = findsInOrder ? span : 128
    let grain = 16
    unsafe weight.values.withUnsafeBufferPointer { weight in
      unsafe factor.values.withUnsafeBufferPointer { r in
        unsafe importance.withUnsafeBufferPointer { importance in
          unsafe scales.withUnsafeMutableBufferPointer { scales in
            unsafe zeros.withUnsafeMutableBufferPointer { zeros in
              unsafe codes.withUnsafeMutableBufferPointer { codes in
                compute.ranges(of: n, grain: grain) { part, _ in
                  unsafe FeedbackRows(
                    finder: finder, columns: k, span: span, block: block, order: order,
                    findsInOrder: findsInOrder, finds: given == nil, weight: weight.baseAddress!,
                    factor: r.baseAddress!, importance: importance.baseAddress!,
                    scales: scales.baseAddress!, zeros: zeros.baseAddress!,
                    codes: codes.baseAddress!
                  ).round(part)
                }
              }
            }
          }
        }
      }
    }
    self.init(
      scheme: scheme, rows: n, columns: k, codes: Bytes(Self.packed(codes, scheme)),
      scales: scales, zeroPoints: scheme.hasZeroPoints ? zeros : [], scaleDivisor: finder.divisor)
  }

  /// Codes as stored: those of 4 bits as two per byte.
  static func packed(_ codes: [Int8], _ scheme: WeightScheme) -> [UInt8] {
    guard scheme.bits == 4 else { return codes.map { UInt8(bitPattern: $0) } }
    let shift: Int8 = if case .integer = scheme.format.numbers { 8 } else { 0 }
    return unsafe [UInt8](unsafeUninitializedCapacity: codes.count / 2) { bytes, initialized in
      for i in 0..<codes.count / 2 {
        unsafe bytes[i] = UInt8(codes[2 * i] + shift) | UInt8(codes[2 * i + 1] + shift) << 4
      }
      initialized = codes.count / 2
    }
  }
}

/// Rounds some rows with error feedback.
@safe private struct FeedbackRows {
  let finder: ScaleFinder
  let columns: Int
  /// Columns per scale.
  let span: Int
  /// Columns whose errors are propagated together.
  let block: Int
  let order: [Int]?
  /// Whether a group's scale is computed from its targets when it is reached.
  let findsInOrder: Bool
  /// Whether scales are computed; otherwise they are given.
  let finds: Bool
  let weight: UnsafePointer<Float>
  let factor: UnsafePointer<Float>
  let importance: UnsafePointer<Float>
  let scales: UnsafeMutablePointer<Float>
  let zeros: UnsafeMutablePointer<Int8>
  let codes: UnsafeMutablePointer<Int8>

  func round(_ rows: Range<Int>) {
    let k = columns
    let groups = k / span
    let m = rows.count
    if finds, !findsInOrder {
      for row in rows {
        for group in 0..<groups { unsafe find(row, group, weight + row * k + group * span) }
      }
    }
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: m * k + m * block + 4 * k) {
      memory in
      let errors = memory.baseAddress!
      let carry = unsafe errors + m * k
      let values = unsafe carry + m * block
      let scratch = unsafe values + k
      let columnScales = unsafe values + 2 * k
      for start in stride(from: 0, to: k, by: block) {
        let count = min(block, k - start)
        unsafe carry.update(repeating: 0, count: m * count)
        if start > 0 {
          unsafe PlainProduct.multiply(
            errors, factor + start, carry, m, count, start, aStride: k, bStride: k, yStride: count)
        }
        let r = unsafe factor + start * k + start
        for row in rows {
          let line = unsafe weight + row * k
          let rowCarry = unsafe carry + (row - rows.lowerBound) * count
          let rowErrors = unsafe errors + (row - rows.lowerBound) * k + start
          for j in 0..<count { unsafe values[j] = line[order?[start + j] ?? (start + j)] }
          if findsInOrder {
            unsafe (scratch + block).update(from: rowCarry, count: count)
            unsafe nibble_follow_feedback(values, scratch + block, r, k, count, scratch)
            unsafe find(row, start / span, scratch)
          }
          unsafe withUnsafeTemporaryAllocation(of: Int8.self, capacity: 2 * count) { bytes in
            let (rounded, columnZeros) = unsafe (bytes.baseAddress!, bytes.baseAddress! + count)
            for j in 0..<count {
              let group = row * groups + (order?[start + j] ?? (start + j)) / span
              unsafe columnScales[j] = scales[group]
              unsafe columnZeros[j] = zeros[group]
            }
            switch finder.scheme.format.numbers {
            case .minifloat(let format):
              unsafe rounded.withMemoryRebound(to: UInt8.self, capacity: count) {
                if format == .e4m3 {
                  unsafe nibble_round_feedback_e4m3(
                    values, rowCarry, r, k, count, columnScales, $0, rowErrors)
                } else {
                  var loop = format.loop
                  unsafe nibble_round_feedback_minifloat(
                    values, rowCarry, r, k, count, columnScales, &loop, $0, rowErrors)
                }
              }
            case .integer:
              unsafe nibble_round_feedback_int(
                values, rowCarry, r, k, count, columnScales, columnZeros,
                finds ? finder.lowestCode : -finder.highestCode, finder.highestCode, rounded,
                rowErrors)
            }
            for j in 0..<count {
              unsafe codes[row * k + (order?[start + j] ?? (start + j))] = rounded[j]
            }
          }
        }
      }
    }
  }

  private func find(_ row: Int, _ group: Int, _ values: UnsafePointer<Float>) {
    let (scale, zero) = unsafe finder.find(
      values, span, importance: importance + group * span, moments: nil, stride: 0)
    let index = row * (columns / span) + group
    unsafe scales[index] = scale
    unsafe zeros[index] = Int8(zero)
  }
}
