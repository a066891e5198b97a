import CNibble

/// Functions of one row of logits.
public enum Logits {
  /// Index of the largest value, the first on ties.
  public static func argmax(_ row: Span<Float>) -> Int {
    unsafe row.withUnsafeBufferPointer { unsafe nibble_argmax($0.baseAddress!, row.count) }
  }

  /// `log Σ exp(x)`.
  public static func logSumExp(_ row: Span<Float>) -> Double {
    unsafe row.withUnsafeBufferPointer { unsafe nibble_log_sum_exp($0.baseAddress!, $0.count) }
  }

  /// In place: `x = exp(x) / Σ exp(x)`; minus infinity becomes 0.
  public static func softmax(_ row: inout MutableSpan<Float>) {
    let count = row.count
    unsafe row.withUnsafeMutableBufferPointer { unsafe nibble_softmax($0.baseAddress!, count) }
  }
}

/// `Σ(other - base)²` and `Σ base²`.
public func errorEnergy(
  of other: Span<Float>, against base: Span<Float>
) -> (error: Double, signal: Double) {
  precondition(other.count == base.count, "\(other.count) values against \(base.count)")
  var (error, signal) = (0.0, 0.0)
  unsafe base.withUnsafeBufferPointer { base in
    unsafe other.withUnsafeBufferPointer { other in
      if base.count > 0 {
        unsafe nibble_error_energy(
          base.baseAddress!, other.baseAddress!, base.count, &error, &signal)
      }
    }
  }
  return (error, signal)
}
