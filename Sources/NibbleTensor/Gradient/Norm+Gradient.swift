/// Norms each row, or each head of each row: `h = (x - μ) r`, `y = h · w + b`, with
/// `r = 1 / sqrt(var(x) + ε)`; without centering `μ = 0` and `r = 1 / sqrt(mean(x²) + ε)`.
///
/// Inputs: x `[t, heads · d]`; w `[1, d]`, or `[heads, d]` with weights per head; and b `[1, d]`,
/// for one head only, or nothing.
package struct NormPrimitive: Primitive {
  let centers: Bool
  let epsilon: Float

  package init(centers: Bool, epsilon: Float) {
    self.centers = centers
    self.epsilon = epsilon
  }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    var result = inputs[0]
    let weight = inputs[1]
    let bias = inputs.count > 2 ? inputs[2].values : []
    var out = result.values.mutableSpan
    if weight.rows == 1 {
      compute.normalize(&out, centers: centers, weight: weight.values.span, epsilon: epsilon)
    } else {
      let ones = [Float](repeating: 1, count: weight.columns)
      compute.normalize(&out, centers: centers, weight: ones.span, epsilon: epsilon)
      compute.multiplyRows(&out, by: weight.values.span)
    }
    if inputs.count > 2 { compute.addBias(bias.span, to: &out) }
    return result
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    let (x, weight) = (inputs[0], inputs[1])
    let (d, weights) = (weight.columns, weight.rows)
    let units = x.values.count / d
    let grain = 64
    let parts = (units + grain - 1) / grain
    var ofInput = [Float](repeating: 0, count: x.values.count)
    // Sums of each range of rows, added in order.
    var ofWeight = [Double](repeating: 0, count: parts * weight.values.count)
    var ofBias = [Double](repeating: 0, count: parts * d)
    unsafe ofInput.withUnsafeMutableBufferPointer { gx in
      unsafe ofWeight.withUnsafeMutableBufferPointer { gw in
        unsafe ofBias.withUnsafeMutableBufferPointer { gb in
          unsafe x.values.withUnsafeBufferPointer { x in
            unsafe gradient.values.withUnsafeBufferPointer { g in
              unsafe weight.values.withUnsafeBufferPointer { w in
                compute.ranges(of: units, grain: grain) { part, _ in
                  let slot = part.lowerBound / grain
                  for unit in part {
                    let (first, head) = (unit * d, unit % weights * d)
                    unsafe backward(
                      x.baseAddress! + first, g.baseAddress! + first, w.baseAddress! + head, d,
                      into: gx.baseAddress! + first,
                      gw.baseAddress! + slot * weights * d + head, gb.baseAddress! + slot * d)
                  }
                }
              }
            }
          }
        }
      }
    }
    func sum(_ values: [Double], _ count: Int) -> [Float] {
      var sums = [Double](repeating: 0, count: count)
      for part in 0..<parts { for i in 0..<count { sums[i] += values[part * count + i] } }
      return sums.map { Float($0) }
    }
    var gradients: [FloatRows?] = [
      FloatRows(ofInput, columns: x.columns),
      FloatRows(sum(ofWeight, weights * d), columns: d),
    ]
    if inputs.count > 2 { gradients.append(FloatRows(sum(ofBias, d), columns: d)) }
    return gradients
  }

  /// `gx = r (a - [mean(a)] - h · mean(a · h))` with `a = gy · w`; adds `gy · h` and `gy` to the
  /// gradients of weight and bias.
  private func backward(
    _ x: UnsafePointer<Float>, _ gradient: UnsafePointer<Float>, _ weight: UnsafePointer<Float>,
    _ d: Int, into gx: UnsafeMutablePointer<Float>, _ gw: UnsafeMutablePointer<Double>,
    _ gb: UnsafeMutablePointer<Double>
  ) {
    var (sum, squares) = (0.0, 0.0)
    if centers { for i in 0..<d { unsafe sum += Double(x[i]) } }
    let mean = sum / Double(d)
    for i in 0..<d {
      let value = unsafe Double(x[i]) - mean
      squares += value * value
    }
    let r = 1 / (squares / Double(d) + Double(epsilon)).squareRoot()
    var (along, total) = (0.0, 0.0)
    for i in 0..<d {
      let (h, g) = unsafe ((Double(x[i]) - mean) * r, Double(gradient[i]))
      let a = unsafe g * Double(weight[i])
      along += a * h
      total += a
      unsafe gw[i] += g * h
      unsafe gb[i] += g
    }
    along /= Double(d)
    total = centers ? total / Double(d) : 0
    for i in 0..<d {
      let h = unsafe (Double(x[i]) - mean) * r
      let a = unsafe Double(gradient[i]) * Double(weight[i])
      unsafe gx[i] = Float(r * (a - total - h * along))
    }
  }
}
