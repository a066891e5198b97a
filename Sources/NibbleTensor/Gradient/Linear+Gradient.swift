/// `y = x Wᵀ`, of x `[t, k]` and W `[n, k]`.
package struct LinearPrimitive: Primitive {
  package init() {}

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    inputs[0].times(transposed: inputs[1], on: compute)
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    [
      needed[0] ? gradient.times(inputs[1], on: compute) : nil,
      needed[1] ? gradient.turned(times: inputs[0], on: compute) : nil,
    ]
  }
}

/// `y = x + b`, of x `[t, n]` and b `[1, n]`.
package struct BiasPrimitive: Primitive {
  package init() {}

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    var result = inputs[0]
    let bias = inputs[1].values
    var out = result.values.mutableSpan
    compute.addBias(bias.span, to: &out)
    return result
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    guard needed[1] else { return [gradient, nil] }
    var sums = [Double](repeating: 0, count: gradient.columns)
    for row in 0..<gradient.rows {
      let first = row * gradient.columns
      for column in sums.indices { sums[column] += Double(gradient.values[first + column]) }
    }
    return [gradient, FloatRows(sums.map { Float($0) }, columns: gradient.columns)]
  }
}

/// Rounds the inputs of a linear as it does when it runs. The gradient passes unchanged
/// (straight-through): a scale per token never clips, and its dependence on the largest value is
/// left out. Source: ZeroQuant, arXiv 2206.01861, section 4.3.
package struct InputRoundingPrimitive: Primitive {
  let rounding: InputRounding

  package init(_ rounding: InputRounding) { self.rounding = rounding }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    let x = inputs[0]
    return FloatRows(
      rounding.rounded(x.values, columns: x.columns, on: compute), columns: x.columns)
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] { [gradient] }
}
