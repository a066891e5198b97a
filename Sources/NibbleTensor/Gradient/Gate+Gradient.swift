import Foundation

/// `y = act(g) · u` of a gate g and u, both `[t, n]`; without u `y = act(g)`.
package struct GatePrimitive: Primitive {
  let activation: Activation

  package init(_ activation: Activation) { self.activation = activation }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    var result = inputs[0]
    let up = inputs.count > 1 ? inputs[1].values : []
    var out = result.values.mutableSpan
    compute.activate(&out, activation)
    if inputs.count > 1 { compute.multiply(&out, by: up.span) }
    return result
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    let gate = inputs[0].values
    let up = inputs.count > 1 ? inputs[1].values : []
    let ofGate = compute.map(gate.count) { i in
      gradient.values[i] * activation.derivative(gate[i]) * (up.isEmpty ? 1 : up[i])
    }
    let columns = gradient.columns
    guard !up.isEmpty else { return [FloatRows(ofGate, columns: columns)] }
    var activated = gate
    var out = activated.mutableSpan
    compute.activate(&out, activation)
    compute.multiply(&out, by: gradient.values.span)
    return [FloatRows(ofGate, columns: columns), FloatRows(activated, columns: columns)]
  }
}

/// `y = (u + 1) · g · sigmoid(slope · g)` with `g = min(gate, limit)`, `u = clamp(up, ±limit)`.
/// Source: gpt-oss.
package struct ClampedGatePrimitive: Primitive {
  let limit: Float
  let slope: Float

  package init(limit: Float, slope: Float) {
    self.limit = limit
    self.slope = slope
  }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    var result = inputs[0]
    let up = inputs[1].values
    var out = result.values.mutableSpan
    compute.clampedGate(&out, by: up.span, limit: limit, slope: slope)
    return result
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    let (gate, up) = (inputs[0].values, inputs[1].values)
    let ofGate = compute.map(gate.count) { i in
      guard gate[i] <= limit else { return 0 }
      let u = max(-limit, min(up[i], limit))
      // slope · g · sigmoid(slope · g) is silu(slope · g).
      return gradient.values[i] * (u + 1) * Activation.silu.derivative(slope * gate[i])
    }
    let ofUp = compute.map(gate.count) { i in
      guard abs(up[i]) <= limit else { return 0 }
      let g = min(gate[i], limit)
      return gradient.values[i] * g / (1 + exp(-slope * g))
    }
    return [
      FloatRows(ofGate, columns: gradient.columns), FloatRows(ofUp, columns: gradient.columns),
    ]
  }
}

/// `y = sigmoid(g) · x`, of x `[t, n]` and g `[t, n]`, or `[t, 1]` for one factor per row.
package struct SigmoidGatePrimitive: Primitive {
  package init() {}

  private func share(_ gate: FloatRows, _ index: Int, _ columns: Int) -> Float {
    1 / (1 + exp(-gate.values[gate.columns == 1 ? index / columns : index]))
  }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    let (gate, x) = (inputs[0], inputs[1])
    return FloatRows(
      compute.map(x.values.count) { x.values[$0] * share(gate, $0, x.columns) },
      columns: x.columns)
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    let (gate, x) = (inputs[0], inputs[1])
    let n = x.columns
    let ofInput = compute.map(x.values.count) { gradient.values[$0] * share(gate, $0, n) }
    // dy/dg = y (1 - sigmoid(g)).
    func change(_ index: Int) -> Float {
      gradient.values[index] * output.values[index] * (1 - share(gate, index, n))
    }
    let ofGate =
      gate.columns == 1
      ? compute.map(gate.rows) { row in (row * n..<(row + 1) * n).reduce(0) { $0 + change($1) } }
      : compute.map(x.values.count, change)
    return [FloatRows(ofGate, columns: gate.columns), FloatRows(ofInput, columns: n)]
  }
}

extension Activation {
  /// The derivative at x.
  func derivative(_ x: Float) -> Float {
    switch self {
    case .silu:
      let s = x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x))
      return s * (1 + x * (1 - s))
    case .relu: return x > 0 ? 1 : 0
    case .gelu:
      let density = exp(-x * x / 2) / Float(2 * Double.pi).squareRoot()
      return (1 + erf(x / Float(2).squareRoot())) / 2 + x * density
    case .geluTanh:
      let (c, k) = (Float(2 / Double.pi).squareRoot(), Float(0.044715))
      let t = tanh(c * (x + k * x * x * x))
      return (1 + t) / 2 + x * (1 - t * t) * c * (1 + 3 * k * x * x) / 2
    }
  }
}

extension Compute {
  /// `body(i)` for each i below `count`.
  func map(_ count: Int, _ body: (Int) -> Float) -> [Float] {
    unsafe [Float](unsafeUninitializedCapacity: count) { values, initialized in
      let base = values.baseAddress
      ranges(of: count, grain: 4096) { part, _ in
        for i in part { unsafe base![i] = body(i) }
      }
      initialized = count
    }
  }
}
