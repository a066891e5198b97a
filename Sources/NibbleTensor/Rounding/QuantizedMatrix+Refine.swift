import CNibble

extension QuantizedMatrix {
  /// Lowers `tr((W - Q) H (W - Q)ᵀ)` of integer codes Q further, row by row, by coordinate descent.
  /// Each code in turn moves to its best value with the others fixed; then each row's scales are
  /// solved by least squares with its codes fixed.
  ///
  /// With `E = W - Q`, the best value in column j is `q_j + (E H)_j / H_jj`, rounded to a code.
  /// With codes `c_g` minus their zero points, a row's scales solve `Σ_h (c_g H c_hᵀ) s_h = c_g H
  /// wᵀ`; new scales are kept only if they are still better after rounding to the stored format.
  /// The loss of no row increases. Source of the codes: QuantEase, arXiv 2309.01885, algorithm 2;
  /// of the scales: the normal equations.
  ///
  /// - Parameters:
  ///   - weight: `[n, k]`, finite.
  ///   - moments: H `[k, k]`, symmetric, its diagonal above zero.
  ///   - rounds: passes over codes and scales; one more pass over the codes follows.
  public func refined(
    toward weight: FloatRows, moments: [Float], scaleFormat: FloatFormat, rounds: Int,
    on compute: Compute
  ) -> QuantizedMatrix {
    let (n, k) = (rows, columns)
    precondition(moments.count == k * k, "\(moments.count) moments for \(k) columns")
    precondition(weight.values.count == n * k, "\(weight.values.count) values, not \(n) x \(k)")
    guard case .integer(let bits) = scheme.format.numbers, !scheme.granularity.sharesRows,
      rounds > 0
    else {
      return self
    }
    var codes = [Int8](repeating: 0, count: n * k)
    var scales = scales
    let zeros = zeroPoints
    let span = grid.columns
    unsafe codes.withUnsafeMutableBufferPointer { codes in
      unsafe self.codes.withUnsafeBytes { bytes in
        let stored = bytes.baseAddress!
        if scheme.bits == 4 {
          unsafe nibble_unpack_int4(
            stored.assumingMemoryBound(to: UInt8.self), codes.baseAddress!, n * k)
        } else {
          unsafe codes.baseAddress!.update(
            from: stored.assumingMemoryBound(to: Int8.self), count: n * k)
        }
      }
      unsafe scales.withUnsafeMutableBufferPointer { scales in
        unsafe weight.values.withUnsafeBufferPointer { weight in
          unsafe moments.withUnsafeBufferPointer { moments in
            unsafe zeros.withUnsafeBufferPointer { zeros in
              compute.ranges(of: n, grain: 32) { part, _ in
                unsafe RefinedRows(
                  columns: k, span: span, lowest: -(1 << (bits - 1)), highest: 1 << (bits - 1) - 1,
                  scaleFormat: scaleFormat, weight: weight.baseAddress!,
                  moments: moments.baseAddress!, zeros: zeros.isEmpty ? nil : zeros.baseAddress,
                  scales: scales.baseAddress!, codes: codes.baseAddress!
                ).refine(part, rounds: rounds)
              }
            }
          }
        }
      }
    }
    return QuantizedMatrix(
      scheme: scheme, rows: n, columns: k, codes: Bytes(Self.packed(codes, scheme)),
      scales: scales, zeroPoints: zeroPoints)
  }
}

/// Refines codes and scales of some rows.
@safe private struct RefinedRows {
  let columns: Int
  /// Columns per scale.
  let span: Int
  let lowest: Int
  let highest: Int
  let scaleFormat: FloatFormat
  let weight: UnsafePointer<Float>
  let moments: UnsafePointer<Float>
  let zeros: UnsafePointer<Int8>?
  let scales: UnsafeMutablePointer<Float>
  let codes: UnsafeMutablePointer<Int8>

  private var groups: Int { columns / span }

  func refine(_ rows: Range<Int>, rounds: Int) {
    let (m, k) = (rows.count, columns)
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: 3 * m * k) { memory in
      // Codes minus zero points, as floats; their products with H; then `W - Q`.
      let whole = memory.baseAddress!
      let product = unsafe whole + m * k
      let scratch = unsafe whole + 2 * m * k
      let first = unsafe weight + rows.lowerBound * k
      for row in rows {
        for j in 0..<k {
          unsafe whole[(row - rows.lowerBound) * k + j] =
            Float(codes[row * k + j]) - Float(zero(row, j))
        }
      }
      for _ in 0..<rounds {
        unsafe multiplyErrors(rows, whole, scratch, product)
        for row in rows {
          let at = (row - rows.lowerBound) * k
          unsafe chooseCodes(row, whole + at, product + at)
        }
        unsafe PlainProduct.multiply(first, moments, product, m, k, k, aStride: k, yStride: k)
        unsafe chooseScales(rows, whole, weightProduct: product, scratch)
      }
      unsafe multiplyErrors(rows, whole, scratch, product)
      for row in rows {
        let at = (row - rows.lowerBound) * k
        unsafe chooseCodes(row, whole + at, product + at)
        for j in 0..<k { unsafe codes[row * k + j] = Int8(Int(whole[at + j]) + zero(row, j)) }
      }
    }
  }

  private func zero(_ row: Int, _ j: Int) -> Int {
    unsafe zeros.map { Int(unsafe $0[row * groups + j / span]) } ?? 0
  }

  /// `product = (W - Q) H`.
  private func multiplyErrors(
    _ rows: Range<Int>, _ whole: UnsafePointer<Float>, _ errors: UnsafeMutablePointer<Float>,
    _ product: UnsafeMutablePointer<Float>
  ) {
    let k = columns
    for row in rows {
      let at = (row - rows.lowerBound) * k
      for j in 0..<k {
        unsafe errors[at + j] =
          weight[row * k + j] - whole[at + j] * scales[row * groups + j / span]
      }
    }
    unsafe PlainProduct.multiply(
      errors, moments, product, rows.count, k, k, aStride: k, yStride: k)
  }

  /// - Parameter product: `(w - q) H` of the row, updated as codes change.
  private func chooseCodes(
    _ row: Int, _ whole: UnsafeMutablePointer<Float>, _ product: UnsafeMutablePointer<Float>
  ) {
    let k = columns
    for group in 0..<groups {
      let scale = unsafe scales[row * groups + group]
      let zero = zero(row, group * span)
      let (low, high) = (Float(lowest - zero), Float(highest - zero))
      for j in group * span..<(group + 1) * span {
        let now = unsafe whole[j]
        let move = unsafe product[j] / moments[j * k + j] / scale
        // The margin above half a step keeps float errors from moving codes without a gain.
        guard abs(move) > 0.5001 else { continue }
        let best = min(max((now + move).rounded(.toNearestOrEven), low), high)
        guard best != now else { continue }
        unsafe whole[j] = best
        unsafe nibble_add_scaled(product, moments + j * k, (now - best) * scale, k)
      }
    }
  }

  /// - Parameter weightProduct: `W H` of the rows.
  private func chooseScales(
    _ rows: Range<Int>, _ whole: UnsafePointer<Float>, weightProduct: UnsafePointer<Float>,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let (m, k, count) = (rows.count, columns, groups)
    var matrices = [Double](repeating: 0, count: m * count * count)
    for group in 0..<count {
      let start = group * span
      // `c_g H` of every row.
      unsafe PlainProduct.multiply(
        whole + start, moments + start * k, scratch, m, k, span, aStride: k, yStride: k)
      for row in 0..<m {
        for other in group..<count {
          let at = row * k + other * span
          let sum = Double(unsafe nibble_dot_f32(scratch + at, whole + at, span))
          matrices[(row * count + group) * count + other] = sum
          matrices[(row * count + other) * count + group] = sum
        }
      }
    }
    for row in 0..<m {
      let matrix = Array(matrices[row * count * count..<(row + 1) * count * count])
      let target = (0..<count).map { group in
        let at = row * k + group * span
        return Double(unsafe nibble_dot_f32(weightProduct + at, whole + at, span))
      }
      let first = unsafe scales + (rows.lowerBound + row) * count
      let now = (0..<count).map { Double(unsafe first[$0]) }
      guard
        let solved = ScaleSystem(matrix: matrix, target: target).solution(near: now)
      else { continue }
      let rounded = solved.map { Double(RowRounding.scale(Float($0), scaleFormat)) }
      let system = ScaleSystem(matrix: matrix, target: target)
      guard solved.allSatisfy({ $0 > 0 }), system.loss(rounded) < system.loss(now) else { continue }
      for group in 0..<count { unsafe first[group] = Float(rounded[group]) }
    }
  }
}

/// `A s = b`, with A symmetric and positive semidefinite.
private struct ScaleSystem {
  let matrix: [Double]
  let target: [Double]

  /// `s A s - 2 b s`.
  func loss(_ s: [Double]) -> Double {
    let n = target.count
    var total = 0.0
    for i in 0..<n {
      var row = 0.0
      for j in 0..<n { row += matrix[i * n + j] * s[j] }
      total += s[i] * (row - 2 * target[i])
    }
    return total
  }

  /// The solution by Cholesky's method, damped towards `now` with a thousandth of the diagonal; nil
  /// when the damped matrix is not positive definite.
  func solution(near now: [Double]) -> [Double]? {
    let n = target.count
    var l = matrix
    var b = target
    for i in 0..<n {
      // Keeps the scale of a group whose codes are all zero.
      let hold = max(1e-3 * matrix[i * n + i], .leastNormalMagnitude)
      l[i * n + i] += hold
      b[i] += hold * now[i]
    }
    for j in 0..<n {
      for p in 0..<j { l[j * n + j] -= l[j * n + p] * l[j * n + p] }
      guard l[j * n + j] > 0, l[j * n + j].isFinite else { return nil }
      l[j * n + j] = l[j * n + j].squareRoot()
      for i in j + 1..<max(n, j + 1) {
        for p in 0..<j { l[i * n + j] -= l[i * n + p] * l[j * n + p] }
        l[i * n + j] /= l[j * n + j]
      }
    }
    for i in 0..<n {
      for p in 0..<i { b[i] -= l[i * n + p] * b[p] }
      b[i] /= l[i * n + i]
    }
    for i in (0..<n).reversed() {
      for p in i + 1..<max(n, i + 1) { b[i] -= l[p * n + i] * b[p] }
      b[i] /= l[i * n + i]
    }
    return b.allSatisfy(\.isFinite) ? b : nil
  }
}
