import CNibble
import COneDNN

/// The upper triangle `R` with `H = R · Rᵀ` of a positive definite matrix `[k, k]`.
///
/// `e H eᵀ = Σ_j ((e R)_j)²`, and `(e R)_j` depends on `e_0 ... e_j` alone, which GPTQ's
/// column-by-column rounding needs. R is the inverse of GPTQ's `U = chol(H⁻¹)`.
public struct UpperFactor: Sendable {
  public let size: Int
  /// `[k, k]`, row-major; below the diagonal zero.
  public let values: [Float]

  /// Factors the matrix by Cholesky's method from the last column to the first, in blocks of
  /// columns. Nil when it is not positive definite in float.
  ///
  /// - Parameter matrix: `[k, k]`, symmetric.
  public init?(of matrix: consuming [Float], size k: Int, on compute: Compute) {
    precondition(matrix.count == k * k, "\(matrix.count) values are not [\(k), \(k)]")
    size = k
    var values = matrix
    let isDefinite = unsafe values.withUnsafeMutableBufferPointer {
      unsafe Self.factor($0.baseAddress!, k, compute)
    }
    guard isDefinite else { return nil }
    for row in 1..<max(1, k) { for column in 0..<row { values[row * k + column] = 0 } }
    self.values = values
  }

  private static let blockSize = 96

  /// Factors the upper triangle in place, trailing block by trailing block.
  private static func factor(
    _ a: UnsafeMutablePointer<Float>, _ k: Int, _ compute: Compute
  ) -> Bool {
    var end = k
    while end > 0 {
      let start = max(0, end - blockSize)
      guard unsafe factorBlock(a, k, start..<end) else { return false }
      // Rows above: X · R_bbᵀ = A, that is, x_j = (a_j - Σ_{l > j} x_l R_jl) / R_jj.
      compute.ranges(of: start, grain: 32) { rows, _ in
        for row in rows {
          let line = unsafe a + row * k
          for j in (start..<end).reversed() {
            let r = unsafe a + j * k
            let sum = unsafe nibble_dot_f32(line + j + 1, r + j + 1, end - j - 1)
            unsafe line[j] = (line[j] - sum) / r[j]
          }
        }
      }
      // The remaining matrix `A - X · Xᵀ`, upper triangle only.
      compute.ranges(of: start, grain: 128) { rows, _ in
        let first = rows.lowerBound
        unsafe subtractProduct(
          a + first * k + start, a + first * k + start, a + first * k + first,
          rows.count, start - first, end - start, k)
      }
      end = start
    }
    return true
  }

  /// Solves `X H = B`, row by row: replaces B `[n, k]` by X.
  ///
  /// `X R Rᵀ = B` in two triangular solutions, blocks of columns at a time: first `Z Rᵀ = B` from
  /// the last column, then `X R = Z` from the first.
  public func solve(_ rows: inout FloatRows, on compute: Compute) {
    let k = size
    precondition(rows.columns == k, "a factor of \(k) for \(rows.columns) columns")
    let count = rows.rows
    unsafe rows.values.withUnsafeMutableBufferPointer { b in
      unsafe values.withUnsafeBufferPointer { r in
        compute.ranges(of: count, grain: 64) { part, _ in
          unsafe Self.solve(b.baseAddress! + part.lowerBound * k, part.count, r.baseAddress!, k)
        }
      }
    }
  }

  private static func solve(
    _ b: UnsafeMutablePointer<Float>, _ rows: Int, _ r: UnsafePointer<Float>, _ k: Int
  ) {
    let starts = Array(stride(from: 0, to: k, by: blockSize))
    for start in starts.reversed() {
      let end = min(k, start + blockSize)
      for row in 0..<rows {
        let line = unsafe b + row * k
        for j in (start..<end).reversed() {
          let sum = unsafe nibble_dot_f32(line + j + 1, r + j * k + j + 1, end - j - 1)
          unsafe line[j] = (line[j] - sum) / r[j * k + j]
        }
      }
      // Columns before the block: `B - Z_block · R[0..<start, block]ᵀ`.
      if start > 0 {
        unsafe subtractProduct(b + start, r + start, b, rows, start, end - start, k)
      }
    }
    for start in starts {
      let end = min(k, start + blockSize)
      for row in 0..<rows {
        let line = unsafe b + row * k
        for j in start..<end {
          let x = unsafe line[j] / r[j * k + j]
          unsafe line[j] = x
          unsafe nibble_add_scaled(line + j + 1, r + j * k + j + 1, -x, end - j - 1)
        }
      }
      // Columns after the block: `Z - X_block · R[block, end...]`.
      if end < k {
        OpenMP.useOneThread()
        let plain = CChar(bitPattern: UInt8(ascii: "N"))
        let stride = dnnl_dim_t(k)
        let status = unsafe dnnl_sgemm(
          plain, plain, dnnl_dim_t(rows), dnnl_dim_t(k - end), dnnl_dim_t(end - start), -1,
          b + start, stride, r + start * k + end, stride, 1, b + end, stride)
        precondition(status == dnnl_success, "oneDNN product: status \(status.rawValue)")
      }
    }
  }

  /// `c[m, n] -= a[m, l] · b[n, l]ᵀ`, all with rows of `stride` floats.
  private static func subtractProduct(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ c: UnsafeMutablePointer<Float>,
    _ m: Int, _ n: Int, _ l: Int, _ stride: Int
  ) {
    OpenMP.useOneThread()
    let status = unsafe dnnl_sgemm(
      CChar(bitPattern: UInt8(ascii: "N")), CChar(bitPattern: UInt8(ascii: "T")), dnnl_dim_t(m),
      dnnl_dim_t(n), dnnl_dim_t(l), -1, a, dnnl_dim_t(stride), b, dnnl_dim_t(stride), 1, c,
      dnnl_dim_t(stride))
    precondition(status == dnnl_success, "oneDNN product: status \(status.rawValue)")
  }

  private static func factorBlock(
    _ a: UnsafeMutablePointer<Float>, _ k: Int, _ block: Range<Int>
  ) -> Bool {
    for j in block.reversed() {
      let r = unsafe a + j * k
      let tail = block.upperBound - j - 1
      let square = unsafe r[j] - nibble_dot_f32(r + j + 1, r + j + 1, tail)
      guard square > 0, square.isFinite else { return false }
      let root = square.squareRoot()
      unsafe r[j] = root
      for i in block.lowerBound..<j {
        let line = unsafe a + i * k
        let sum = unsafe nibble_dot_f32(line + j + 1, r + j + 1, tail)
        unsafe line[j] = (line[j] - sum) / root
      }
    }
    return true
  }
}
