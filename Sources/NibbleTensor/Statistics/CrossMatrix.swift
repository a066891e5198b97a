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
    PlainProduct.add(turned: left, rows, times: right, columns, to: &values, on: compute)
    left.removeAll(keepingCapacity: true)
    right.removeAll(keepingCapacity: true)
  }
}
