extension Compute {
  /// Copies selected rows of `width` values: `y[i] = x[rows[i]]`.
  public func gather(
    _ rows: [Int], of x: Span<Float>, width: Int, into y: inout MutableSpan<Float>
  ) {
    precondition(y.count == rows.count * width, "\(rows.count) rows of \(width)")
    precondition(rows.allSatisfy { $0 >= 0 && ($0 + 1) * width <= x.count }, "a row is missing")
    unsafe y.withUnsafeMutableBufferPointer { y in
      unsafe x.withUnsafeBufferPointer { x in
        ranges(of: rows.count, grain: 64) { part, _ in
          for index in part {
            unsafe (y.baseAddress! + index * width).update(
              from: x.baseAddress! + rows[index] * width, count: width)
          }
        }
      }
    }
  }

  /// Adds scaled rows of `width` values to selected rows: `y[rows[i]] += factors[i] · x[i]`.
  ///
  /// - Parameter rows: indices of rows of `y`, all different.
  public func scatter(
    _ x: Span<Float>, times factors: [Float], width: Int, to rows: [Int],
    of y: inout MutableSpan<Float>
  ) {
    precondition(
      x.count == rows.count * width && factors.count == rows.count, "\(rows.count) rows of \(width)"
    )
    precondition(rows.allSatisfy { $0 >= 0 && ($0 + 1) * width <= y.count }, "a row is missing")
    unsafe y.withUnsafeMutableBufferPointer { y in
      unsafe x.withUnsafeBufferPointer { x in
        ranges(of: rows.count, grain: 64) { part, _ in
          for index in part {
            let (from, to) = unsafe (
              x.baseAddress! + index * width, y.baseAddress! + rows[index] * width
            )
            let factor = factors[index]
            for i in 0..<width { unsafe to[i] += factor * from[i] }
          }
        }
      }
    }
  }

  /// Elementwise `gate = (u + 1) · g · sigmoid(slope · g)`, with `g = min(gate, limit)` and
  /// `u = clamp(up, ±limit)`.
  public func clampedGate(
    _ gate: inout MutableSpan<Float>, by up: Span<Float>, limit: Float, slope: Float
  ) {
    precondition(gate.count == up.count, "\(gate.count) gates for \(up.count) values")
    let count = gate.count
    unsafe gate.withUnsafeMutableBufferPointer { gate in
      ranges(of: count, grain: 16384) { part, _ in
        for i in part { unsafe gate[i] = slope * min(gate[i], limit) }
      }
    }
    // silu(slope · g) is slope · g · sigmoid(slope · g).
    activate(&gate, .silu)
    unsafe gate.withUnsafeMutableBufferPointer { gate in
      unsafe up.withUnsafeBufferPointer { up in
        ranges(of: count, grain: 16384) { part, _ in
          for i in part {
            unsafe gate[i] *= (max(-limit, min(up[i], limit)) + 1) / slope
          }
        }
      }
    }
  }
}
