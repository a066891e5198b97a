import NibbleTensor

/// Plain matrices in double: the oracle of what the library does in float, blocks and threads.
struct DoubleMatrix {
  var rows: Int
  var columns: Int
  /// `[rows, columns]`
  var values: [Double]

  init(rows: Int, columns: Int, _ values: [Double]? = nil) {
    (self.rows, self.columns) = (rows, columns)
    self.values = values ?? [Double](repeating: 0, count: rows * columns)
  }

  init(_ values: [Float], columns: Int) {
    self.init(rows: values.count / columns, columns: columns, values.map(Double.init))
  }

  subscript(_ row: Int, _ column: Int) -> Double {
    get { values[row * columns + column] }
    set { values[row * columns + column] = newValue }
  }

  var floats: [Float] { values.map { Float($0) } }

  var transposed: DoubleMatrix {
    var turned = DoubleMatrix(rows: columns, columns: rows)
    for row in 0..<rows { for column in 0..<columns { turned[column, row] = self[row, column] } }
    return turned
  }

  static func * (a: DoubleMatrix, b: DoubleMatrix) -> DoubleMatrix {
    var product = [Double](repeating: 0, count: a.rows * b.columns)
    for row in 0..<a.rows {
      for l in 0..<a.columns {
        let factor = a.values[row * a.columns + l]
        if factor == 0 { continue }
        for column in 0..<b.columns {
          product[row * b.columns + column] += factor * b.values[l * b.columns + column]
        }
      }
    }
    return DoubleMatrix(rows: a.rows, columns: b.columns, product)
  }

  /// The matrix with its rows and columns in `order`.
  func ordered(_ order: [Int]) -> DoubleMatrix {
    var result = self
    for row in 0..<rows {
      for column in 0..<columns { result[row, column] = self[order[row], order[column]] }
    }
    return result
  }

  /// The lower triangle `L` with `L Lᵀ` = this, by the textbook.
  var lowerFactor: DoubleMatrix {
    var lower = DoubleMatrix(rows: rows, columns: rows)
    for j in 0..<rows {
      for i in j..<rows {
        var sum = self[i, j]
        for l in 0..<j { sum -= lower[i, l] * lower[j, l] }
        lower[i, j] = i == j ? sum.squareRoot() : sum / lower[j, j]
      }
    }
    return lower
  }

  /// The inverse of a positive definite matrix: `L⁻ᵀ L⁻¹`.
  var inverse: DoubleMatrix {
    let lower = lowerFactor
    var inverse = DoubleMatrix(rows: rows, columns: rows)
    for column in 0..<rows {
      for row in column..<rows {
        var sum = row == column ? 1.0 : 0.0
        for l in column..<row { sum -= lower[row, l] * inverse[l, column] }
        inverse[row, column] = sum / lower[row, row]
      }
    }
    return inverse.transposed * inverse
  }

  /// `Σ_rows d M dᵀ` for rows `[n, k]`.
  func energy(of rows: [Double]) -> Double {
    let k = columns
    let product = DoubleMatrix(rows: rows.count / k, columns: k, rows) * self
    return zip(rows, product.values).reduce(0) { $0 + $1.0 * $1.1 }
  }
}

/// An activation `[t, k]` whose neighbouring channels are correlated and whose channels differ in size.
func correlated(tokens: Int, channels: Int, seed: UInt64) -> [Float] {
  let noise = gaussian(tokens * channels, seed: seed)
  let sizes = gaussian(channels, seed: seed &+ 1000)
  var x = noise
  for token in 0..<tokens {
    var before: Float = 0
    for channel in 0..<channels {
      before = 0.8 * before + 0.6 * noise[token * channels + channel]
      let scale = sizes[channel]
      x[token * channels + channel] = before * (0.2 + scale * scale)
    }
  }
  return x
}

/// `Xᵀ X / t` with `damping` of the diagonal's mean added to it, exactly symmetric, each value a float.
func secondMoments(_ x: [Float], channels k: Int, damping: Double = 0.01) -> DoubleMatrix {
  let activation = DoubleMatrix(x, columns: k)
  var moments = activation.transposed * activation
  let tokens = Double(activation.rows)
  let mean = (0..<k).reduce(0) { $0 + moments[$1, $1] } / tokens / Double(k)
  for row in 0..<k {
    for column in row..<k {
      let value = Double(
        Float(moments[row, column] / tokens + (row == column ? damping * mean : 0)))
      moments[row, column] = value
      moments[column, row] = value
    }
  }
  return moments
}
