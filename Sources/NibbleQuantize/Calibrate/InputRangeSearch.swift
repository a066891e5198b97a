import NibbleModel
import NibbleTensor

/// Searches the static range of a site's activation.
///
/// Both ends shrink step by step, together for a symmetric format. The range with the least
/// `Σ_tokens Σ_c |W_:,c|² (x_c - x̂_c)²` wins, the widest on ties. The tokens are the uniform
/// sample, weighted to stand for all, and those with the largest values, which a uniform sample
/// would miss and which can decide a model's output.
struct InputRangeSearch {
  private static let shares: [Float] = [
    1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02,
  ]

  /// - Parameter weights: the linears that read the activation.
  static func range(
    of statistics: ActivationStatistics, scheme: ActivationScheme, weights: [FloatRows],
    on compute: Compute
  ) -> InputRange {
    var importance = [Float](repeating: 0, count: statistics.channels)
    for weight in weights {
      for (channel, energy) in weight.columnStatistics(on: compute).energy.enumerated() {
        importance[channel] += Float(energy)
      }
    }
    let low = min(statistics.columns.low.min() ?? 0, 0)
    let high = max(statistics.columns.high.max() ?? 0, 0)
    let isAffine = scheme == .staticAsymmetric
    let sample = statistics.sample
    let peaks = statistics.loudest
    let weight = Double(statistics.tokens) / Double(max(1, sample.rows))
    var best = range(low, high, scheme)
    var least = Double.infinity
    for lowShare in Self.shares {
      for highShare in isAffine ? Self.shares : [lowShare] {
        let candidate = range(low * lowShare, high * highShare, scheme)
        let error =
          weight
          * sample.roundingError(candidate, scheme.format, importance: importance, on: compute)
          + peaks.roundingError(candidate, scheme.format, importance: importance, on: compute)
        if error < least { (best, least) = (candidate, error) }
      }
    }
    return best
  }

  /// The range from `low` to `high`, which contains 0; the widest one if the activation overflowed.
  static func range(_ low: Float, _ high: Float, _ scheme: ActivationScheme) -> InputRange {
    let (smallest, largest) = (Float.leastNormalMagnitude, Float.greatestFiniteMagnitude)
    let (low, high) = (max(low, -largest), min(high, largest))
    guard scheme == .staticAsymmetric else {
      let peak = max(-low, high)
      let code: Float = scheme.format == .int8 ? 127 : 448
      return InputRange(scale: peak > 0 ? max(peak / code, smallest) : 1)
    }
    let width = high / 2 - low / 2
    let scale = width > 0 ? max(width / 255 * 2, smallest) : 1
    let zero = (-128 - low / scale).rounded(.toNearestOrEven)
    return InputRange(scale: scale, zero: Int32(min(max(zero, -128), 127)))
  }
}
