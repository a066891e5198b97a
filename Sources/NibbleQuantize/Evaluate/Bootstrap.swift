import NibbleTensor

/// Resamples windows with replacement, for intervals of means over their tokens.
///
/// Tokens of one window depend on each other, so whole windows are drawn. All values of a window are
/// drawn together (paired). The seed is fixed: the same windows give the same intervals.
/// Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, percentile intervals.
struct Bootstrap {
  static let resamples = 1000
  private static let seed: UInt64 = 1

  /// Tokens and sums of two values over the tokens of a window.
  struct Window {
    var tokens = 0
    var first = 0.0
    var second = 0.0
  }

  /// Intervals of `Σ first / Σ tokens` and `Σ second / Σ tokens`; nil for fewer than two windows.
  static func intervals(
    _ windows: [Window]
  ) -> (first: Divergence.Interval, second: Divergence.Interval)? {
    guard windows.count > 1 else { return nil }
    var random = SplitMix64(state: seed)
    var (first, second): ([Double], [Double]) = ([], [])
    for _ in 0..<resamples {
      var total = Window()
      for _ in windows {
        let drawn = windows[Int(random.next() % UInt64(windows.count))]
        total.tokens += drawn.tokens
        total.first += drawn.first
        total.second += drawn.second
      }
      first.append(total.first / Double(max(1, total.tokens)))
      second.append(total.second / Double(max(1, total.tokens)))
    }
    return (interval(first), interval(second))
  }

  private static func interval(_ values: [Double]) -> Divergence.Interval {
    let sorted = Percentiles(values)
    return Divergence.Interval(lower: sorted[0.025], upper: sorted[0.975])
  }
}

/// Percentiles of some values by linear interpolation between the two nearest, numpy's default.
struct Percentiles<Value: BinaryFloatingPoint> {
  private let sorted: [Value]

  /// - Parameter values: at least one. NaN counts as larger than all others.
  init(_ values: [Value]) {
    precondition(!values.isEmpty, "no values")
    sorted = values.sorted { $0 < $1 || !$0.isNaN && $1.isNaN }
  }

  /// - Parameter share: 0...1; 0.5 is the median.
  subscript(share: Double) -> Double {
    let place = share * Double(sorted.count - 1)
    let below = min(Int(place), sorted.count - 1)
    let (low, high) = (
      Double(sorted[below]), Double(sorted[min(below + 1, sorted.count - 1)])
    )
    // An infinity beside itself would give NaN.
    return low == high ? low : low + (place - Double(below)) * (high - low)
  }
}
