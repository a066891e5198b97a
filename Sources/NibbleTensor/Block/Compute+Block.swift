import CNibble

extension Compute {
  /// `y = x / sqrt(mean(x²) + epsilon) · weight` for each row of `weight.count` values.
  public func rmsNorm(
    _ x: Span<Float>, weight: Span<Float>, epsilon: Float, into y: inout MutableSpan<Float>
  ) {
    let width = weight.count
    precondition(x.count == y.count && x.count.isMultiple(of: width), "rows of \(width)")
    unsafe x.withUnsafeBufferPointer { x in
      unsafe y.withUnsafeMutableBufferPointer { y in
        unsafe weight.withUnsafeBufferPointer { weight in
          ranges(of: x.count / width, grain: 16) { rows, _ in
            for row in rows {
              unsafe nibble_rms_norm(
                x.baseAddress! + row * width, weight.baseAddress!, y.baseAddress! + row * width,
                width, epsilon)
            }
          }
        }
      }
    }
  }

  /// `gate = silu(gate) · up`, element by element.
  public func siluMultiply(_ gate: inout MutableSpan<Float>, by up: Span<Float>) {
    precondition(gate.count == up.count, "\(gate.count) gates for \(up.count) values")
    unsafe gate.withUnsafeMutableBufferPointer { gate in
      unsafe up.withUnsafeBufferPointer { up in
        ranges(of: up.count, grain: 16384) { part, _ in
          let at = part.lowerBound
          unsafe nibble_silu_multiply(
            gate.baseAddress! + at, up.baseAddress! + at, part.count)
        }
      }
    }
  }

  /// `y += x`, element by element.
  public func add(_ x: Span<Float>, to y: inout MutableSpan<Float>) {
    precondition(x.count == y.count, "\(x.count) values into \(y.count)")
    unsafe y.withUnsafeMutableBufferPointer { y in
      unsafe x.withUnsafeBufferPointer { x in
        ranges(of: x.count, grain: 16384) { part, _ in
          unsafe nibble_add(
            y.baseAddress! + part.lowerBound, x.baseAddress! + part.lowerBound, part.count)
        }
      }
    }
  }

  /// Adds `bias` to each row of `bias.count` values.
  public func addBias(_ bias: Span<Float>, to y: inout MutableSpan<Float>) {
    let width = bias.count
    precondition(y.count.isMultiple(of: width), "\(y.count) values are not rows of \(width)")
    unsafe y.withUnsafeMutableBufferPointer { y in
      unsafe bias.withUnsafeBufferPointer { bias in
        for row in 0..<y.count / width {
          unsafe nibble_add(y.baseAddress! + row * width, bias.baseAddress!, width)
        }
      }
    }
  }
}
