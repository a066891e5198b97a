import NibbleTensor

/// How the static quantization range of a site's activation is found.
public enum InputRangeMethod: String, Hashable, Sendable, Codable, CaseIterable {
  /// Both ends move inwards while the output error falls. Ours: see ``InputRangeSearch``.
  case searched
  /// The mean of the windows' minima and the mean of their maxima: msmodelslim's act_method 1.
  case mean
  /// The part of a histogram with the least quantization error: msmodelslim's act_method 2, as
  /// torch's `HistogramObserver`.
  case histogram
  /// `histogram` where the largest magnitude is at most 50 standard deviations, else `mean`:
  /// msmodelslim's act_method 3.
  case mixed

  /// The method of msmodelslim's act_method 1, 2 or 3.
  public init?(actMethod: Int) {
    switch actMethod {
    case 1: self = .mean
    case 2: self = .histogram
    case 3: self = .mixed
    default: return nil
    }
  }

  /// - Parameter weights: the linears that read the activation.
  func range(
    of statistics: ActivationStatistics, scheme: ActivationScheme, weights: [FloatRows],
    on compute: Compute
  ) -> InputRange {
    switch self {
    case .searched:
      return InputRangeSearch.range(
        of: statistics, scheme: scheme, weights: weights, on: compute)
    case .mean: return Self.mean(statistics, scheme)
    case .histogram: return Self.histogram(statistics, scheme)
    case .mixed:
      let peak = statistics.columns.peaks.max() ?? 0
      return peak <= 50 * statistics.sampledDeviation
        ? Self.histogram(statistics, scheme) : Self.mean(statistics, scheme)
    }
  }

  private static func mean(
    _ statistics: ActivationStatistics, _ scheme: ActivationScheme
  ) -> InputRange {
    let windows = statistics.windows.isEmpty ? [statistics.columns] : statistics.windows
    let count = Double(windows.count)
    let low = windows.reduce(0.0) { $0 + Double($1.low.min() ?? 0) } / count
    let high = windows.reduce(0.0) { $0 + Double($1.high.max() ?? 0) } / count
    return Self.range(Float(low), Float(high), scheme)
  }

  /// Widened to contain 0. An end that is NaN, from an activation that overflowed, becomes 0.
  private static func range(
    _ low: Float, _ high: Float, _ scheme: ActivationScheme
  ) -> InputRange {
    InputRangeSearch.range(
      low.isNaN ? 0 : min(low, 0), high.isNaN ? 0 : max(high, 0), scheme)
  }

  private static func histogram(
    _ statistics: ActivationStatistics, _ scheme: ActivationScheme
  ) -> InputRange {
    let low = statistics.columns.low.min() ?? 0
    let high = statistics.columns.high.max() ?? 0
    var histogram = ActivationHistogram(low: low, high: high)
    let weight = Double(statistics.tokens) / Double(max(1, statistics.sample.rows))
    histogram.add(statistics.sample.values, weight: weight)
    histogram.add(statistics.loudest.values, weight: 1)
    let best = histogram.leastLoss()
    return Self.range(best.low, best.high, scheme)
  }
}

extension ActivationStatistics {
  /// Standard deviation of all values of the sampled tokens.
  var sampledDeviation: Float {
    let count = Double(max(1, sample.values.count))
    let mean = sample.values.reduce(0.0) { $0 + Double($1) } / count
    let squares = sample.values.reduce(0.0) { sum, value in
      sum + (Double(value) - mean) * (Double(value) - mean)
    }
    return Float((squares / max(1, count - 1)).squareRoot())
  }
}
