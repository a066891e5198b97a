import CNibble
import Foundation

extension Compute {
  /// `y = x / sqrt(mean(x²) + epsilon) · weight` for each row of `weight.count` values.
  public func rmsNorm(
    _ x: Span<Float>, weight: Span<Float>, epsilon: Float, into y: inout MutableSpan<Float>
  ) {
    norm(x, centers: false, weight: weight, epsilon: epsilon, into: &y)
  }

  /// `y = (x - mean(x)) / sqrt(var(x) + epsilon) · weight` for each row of `weight.count` values.
  public func layerNorm(
    _ x: Span<Float>, weight: Span<Float>, epsilon: Float, into y: inout MutableSpan<Float>
  ) {
    norm(x, centers: true, weight: weight, epsilon: epsilon, into: &y)
  }

  private func norm(
    _ x: Span<Float>, centers: Bool, weight: Span<Float>, epsilon: Float,
    into y: inout MutableSpan<Float>
  ) {
    precondition(x.count == y.count, "\(x.count) values into \(y.count)")
    unsafe x.withUnsafeBufferPointer { x in
      unsafe y.withUnsafeMutableBufferPointer { y in
        unsafe normRows(x, centers: centers, weight: weight, epsilon: epsilon, grain: 16, into: y)
      }
    }
  }

  /// Norms each row of `weight.count` values in place, as ``rmsNorm(_:weight:epsilon:into:)`` or
  /// ``layerNorm(_:weight:epsilon:into:)`` do.
  public func normalize(
    _ x: inout MutableSpan<Float>, centers: Bool, weight: Span<Float>, epsilon: Float
  ) {
    unsafe x.withUnsafeMutableBufferPointer { x in
      unsafe normRows(
        UnsafeBufferPointer(x), centers: centers, weight: weight, epsilon: epsilon, grain: 64,
        into: x)
    }
  }

  /// - Parameter y: may be `x`.
  private func normRows(
    _ x: UnsafeBufferPointer<Float>, centers: Bool, weight: Span<Float>, epsilon: Float, grain: Int,
    into y: UnsafeMutableBufferPointer<Float>
  ) {
    let width = weight.count
    precondition(x.count.isMultiple(of: width), "rows of \(width)")
    unsafe weight.withUnsafeBufferPointer { weight in
      ranges(of: x.count / width, grain: grain) { rows, _ in
        for row in rows {
          let (from, to) = unsafe (x.baseAddress! + row * width, y.baseAddress! + row * width)
          if centers {
            unsafe nibble_layer_norm(from, weight.baseAddress!, to, width, epsilon)
          } else {
            unsafe nibble_rms_norm(from, weight.baseAddress!, to, width, epsilon)
          }
        }
      }
    }
  }

  /// Multiplies each row of `factors.count` values by `factors`, element by element.
  public func multiplyRows(_ x: inout MutableSpan<Float>, by factors: Span<Float>) {
    let width = factors.count
    precondition(x.count.isMultiple(of: width), "\(x.count) values are not rows of \(width)")
    unsafe x.withUnsafeMutableBufferPointer { x in
      unsafe factors.withUnsafeBufferPointer { factors in
        for row in 0..<x.count / width {
          unsafe nibble_multiply(x.baseAddress! + row * width, factors.baseAddress!, width)
        }
      }
    }
  }

  /// Copies ranges of columns of each row, one range after the other: `y[t, ...] = x[t,
  /// columns...]`.
  ///
  /// - Parameter width: values per row of `x`.
  public func take(
    _ columns: [Range<Int>], of x: Span<Float>, width: Int, into y: inout MutableSpan<Float>
  ) {
    let count = columns.reduce(0) { $0 + $1.count }
    let rows = x.count / width
    precondition(x.count == rows * width && y.count == rows * count, "\(rows) rows of \(count)")
    unsafe y.withUnsafeMutableBufferPointer { y in
      unsafe x.withUnsafeBufferPointer { x in
        ranges(of: rows, grain: 64) { rows, _ in
          for row in rows {
            var to = unsafe y.baseAddress! + row * count
            for part in columns {
              unsafe to.update(
                from: x.baseAddress! + row * width + part.lowerBound, count: part.count)
              unsafe to += part.count
            }
          }
        }
      }
    }
  }

  /// `x = activation(x)`, element by element.
  public func activate(_ x: inout MutableSpan<Float>, _ activation: Activation) {
    let count = x.count
    unsafe x.withUnsafeMutableBufferPointer { x in
      ranges(of: count, grain: 16384) { part, _ in
        unsafe nibble_activate(x.baseAddress! + part.lowerBound, part.count, activation.code)
      }
    }
  }

  /// `x = 1 / (1 + e^-x)`, element by element.
  public func sigmoid(_ x: inout MutableSpan<Float>) {
    let count = x.count
    unsafe x.withUnsafeMutableBufferPointer { x in
      ranges(of: count, grain: 4096) { part, _ in
        for i in part { unsafe x[i] = 1 / (1 + exp(-x[i])) }
      }
    }
  }

  /// `y = y · x`, element by element.
  public func multiply(_ y: inout MutableSpan<Float>, by x: Span<Float>) {
    precondition(x.count == y.count, "\(x.count) factors for \(y.count) values")
    unsafe y.withUnsafeMutableBufferPointer { y in
      unsafe x.withUnsafeBufferPointer { x in
        ranges(of: x.count, grain: 16384) { part, _ in
          unsafe nibble_multiply(
            y.baseAddress! + part.lowerBound, x.baseAddress! + part.lowerBound, part.count)
        }
      }
    }
  }

  /// `x = c · tanh(x / c)`, element by element.
  public func cap(_ x: inout MutableSpan<Float>, at cap: Float) {
    let count = x.count
    unsafe x.withUnsafeMutableBufferPointer { x in
      ranges(of: count, grain: 4096) { part, _ in
        for i in part { unsafe x[i] = cap * tanh(x[i] / cap) }
      }
    }
  }

  /// `x = factor · x`, element by element.
  public func scale(_ x: inout MutableSpan<Float>, by factor: Float) {
    let count = x.count
    unsafe x.withUnsafeMutableBufferPointer { x in
      ranges(of: count, grain: 16384) { part, _ in
        unsafe nibble_scale(x.baseAddress! + part.lowerBound, factor, part.count)
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
