/// `y = a + factor · b`, both of the same size.
package struct SumPrimitive: Primitive {
  let factor: Float

  package init(factor: Float = 1) { self.factor = factor }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    var result = inputs[0]
    result.add(inputs[1], times: factor, on: compute)
    return result
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    [gradient, needed[1] ? gradient.scaled(by: factor, on: compute) : nil]
  }
}

/// `y = factor · x`.
package struct ScalePrimitive: Primitive {
  let factor: Float

  package init(_ factor: Float) { self.factor = factor }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    inputs[0].scaled(by: factor, on: compute)
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] { [gradient.scaled(by: factor, on: compute)] }
}

/// Some columns of each row, one range after the other: a part of a fused linear's output.
package struct ColumnsPrimitive: Primitive {
  let columns: [Range<Int>]

  package init(_ columns: [Range<Int>]) { self.columns = columns }

  private var count: Int { columns.reduce(0) { $0 + $1.count } }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    let x = inputs[0]
    var taken = [Float](repeating: 0, count: x.rows * count)
    var out = taken.mutableSpan
    compute.take(columns, of: x.values.span, width: x.columns, into: &out)
    return FloatRows(taken, columns: count)
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    let width = inputs[0].columns
    var whole = [Float](repeating: 0, count: inputs[0].values.count)
    for row in 0..<gradient.rows {
      var from = row * count
      for part in columns {
        whole.replaceSubrange(
          row * width + part.lowerBound..<row * width + part.upperBound,
          with: gradient.values[from..<from + part.count])
        from += part.count
      }
    }
    return [FloatRows(whole, columns: width)]
  }
}

/// Selected rows: the tokens that a router sends to an expert.
package struct GatherPrimitive: Primitive {
  let rows: [Int]

  package init(_ rows: [Int]) { self.rows = rows }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    let x = inputs[0]
    var taken = [Float](repeating: 0, count: rows.count * x.columns)
    var out = taken.mutableSpan
    compute.gather(rows, of: x.values.span, width: x.columns, into: &out)
    return FloatRows(taken, columns: x.columns)
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    var whole = [Float](repeating: 0, count: inputs[0].values.count)
    var out = whole.mutableSpan
    compute.scatter(
      gradient.values.span, times: [Float](repeating: 1, count: rows.count),
      width: gradient.columns, to: rows, of: &out)
    return [FloatRows(whole, columns: gradient.columns)]
  }
}

/// Adds scaled rows of x to selected rows of y: an expert's outputs times its shares, which are
/// constants.
package struct ScatterPrimitive: Primitive {
  let rows: [Int]
  let shares: [Float]

  package init(_ rows: [Int], times shares: [Float]) {
    self.rows = rows
    self.shares = shares
  }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    var result = inputs[0]
    let x = inputs[1]
    var out = result.values.mutableSpan
    compute.scatter(x.values.span, times: shares, width: x.columns, to: rows, of: &out)
    return result
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    var taken = [Float](repeating: 0, count: rows.count * gradient.columns)
    var out = taken.mutableSpan
    compute.gather(rows, of: gradient.values.span, width: gradient.columns, into: &out)
    var ofRows = FloatRows(taken, columns: gradient.columns)
    ofRows.scaleRows(by: shares)
    return [gradient, ofRows]
  }
}

extension FloatRows {
  func scaled(by factor: Float, on compute: Compute) -> FloatRows {
    guard factor != 1 else { return self }
    var result = self
    var out = result.values.mutableSpan
    compute.scale(&out, by: factor)
    return result
  }
}
