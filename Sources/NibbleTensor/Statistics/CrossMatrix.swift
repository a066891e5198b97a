import COneDNN

/// Sums of products of two activations over tokens: `C[i, j] = Σ a[t, i] · b[t, j]`, in float.
///
/// Slabs of tokens are summed in the order in which they were added, so the sum does not depend on
/// the number of threads.
public struct CrossMatrix: Sendable {
  /// Channels of a.
  public let rows: Int
  /// Channels of b.
  public let columns: Int
  /// `[rows, columns]`
  public private(set) var values: [Float]
  /// Tokens that do not fill a slab yet.
  private var left: [Float] = []
  private var right: [Float] = []

  public init(rows: Int, columns: Int) {
    (self.rows, self.columns) = (rows, columns)
    values = [Float](repeating: 0, count: rows * columns)
  }

  /// Adds `Σ a[t, i] · b[t, j]` for a `[t, rows]` and b `[t, columns]`.
  public mutating func add(_ a: [Float], _ b: [Float], on compute: Compute) {
    precondition(a.count * columns == b.count * rows, "\(a.count), \(b.count) values")
    left += a
    right += b
    if left.count >= GramMatrix.tokensAtOnce * rows { addSlab(on: compute) }
  }

  /// Adds another sum, both complete.
  public mutating func add(_ other: Self) {
    precondition(other.rows == rows && other.columns == columns, "\(other.rows), \(other.columns)")
    for index in values.indices { values[index] += other.values[index] }
  }

  /// Adds the incomplete slab. Call before reading `values`.
  public mutating func finish(on compute: Compute) { addSlab(on: compute) }

  private mutating func addSlab(on compute: Compute) {
    let tokens = left.count / max(1, rows)
    guard tokens > 0 else { return }
    let (n, k) = (rows, columns)
    let (height, width) = (128, 256)
    let across = (k + width - 1) / width
    unsafe values.withUnsafeMutableBufferPointer { values in
      unsafe left.withUnsafeBufferPointer { a in
        unsafe right.withUnsafeBufferPointer { b in
          compute.pool.run((n + height - 1) / height * across) { task, _ in
            let (row, column) = (task / across * height, task % across * width)
            unsafe PlainProduct.accumulate(
              turned: a.baseAddress! + row, n, b.baseAddress! + column, k,
              into: values.baseAddress! + row * k + column, min(height, n - row),
              min(width, k - column), tokens)
          }
        }
      }
    }
    left.removeAll(keepingCapacity: true)
    right.removeAll(keepingCapacity: true)
  }
}

extension FloatRows {
  /// The product of these rows `[n, k]` with a matrix `[k, p]`, `[n, p]`.
  public func times(_ matrix: CrossMatrix, on compute: Compute) -> FloatRows {
    precondition(matrix.rows == columns, "\(columns) columns times \(matrix.rows) rows")
    let (k, p) = (columns, matrix.columns)
    var product = [Float](repeating: 0, count: rows * p)
    unsafe product.withUnsafeMutableBufferPointer { y in
      unsafe values.withUnsafeBufferPointer { a in
        unsafe matrix.values.withUnsafeBufferPointer { b in
          compute.ranges(of: rows, grain: 64) { part, _ in
            unsafe PlainProduct.multiply(
              a.baseAddress! + part.lowerBound * k, b.baseAddress!,
              y.baseAddress! + part.lowerBound * p, part.count, p, k, aStride: k, yStride: p)
          }
        }
      }
    }
    return FloatRows(product, columns: p)
  }
}
