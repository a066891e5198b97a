import Foundation
import NibbleModel
import NibbleTensor

/// Expected output noise of a site's linears from quantization, computed from statistics: `E|W Δx|²
/// + E|ΔW x|²`, with every rounding error uniform within its quantization step.
struct SmoothingNoise {
  private let factorIndex: [Int]
  private let columns: ColumnStatistics
  private let peaks: [Float]
  private let weightPeaks: [Float]
  private let sample: FloatRows
  private let meanSquare: [Double]
  private let columnEnergies: [Double]
  private let weights: [FloatRows]
  private let scheme: LinearScheme
  /// The statistic that sets the quantization step of a row with sparse codes.
  enum SparseStep { case peak, deviation }
  private let sparse: SparseStep?

  var factorCount: Int { (factorIndex.max() ?? -1) + 1 }

  init(
    _ block: WorkingBlock, _ site: SiteShape, _ statistics: ActivationStatistics,
    _ scheme: LinearScheme,
    sparse: SparseStep? = nil, on compute: Compute
  ) {
    self.scheme = scheme
    self.sparse = sparse
    factorIndex = site.factorIndex
    columns = statistics.columns
    peaks = columns.peaks
    sample = statistics.sample
    meanSquare = statistics.meanSquare
    weights = site.ids.compactMap(block.weight)
    var energies = [Double](repeating: 0, count: statistics.channels)
    var weightPeaks = [Float](repeating: 0, count: statistics.channels)
    for weight in weights {
      let columns = weight.columnStatistics(on: compute)
      let peaks = columns.peaks
      for channel in energies.indices {
        energies[channel] += columns.energy[channel]
        weightPeaks[channel] = max(weightPeaks[channel], peaks[channel])
      }
    }
    columnEnergies = energies
    self.weightPeaks = weightPeaks
  }

  /// Factors by the paper's formula; channels that share a factor use their largest peaks. A factor
  /// that is zero, subnormal, infinite or NaN becomes 1.
  func factors(_ migration: Migration) -> [Float] {
    var x = [Float](repeating: 0, count: factorCount)
    var w = x
    for (channel, index) in factorIndex.enumerated() {
      let loudness =
        migration.loudness == .peak ? peaks[channel] : Float(meanSquare[channel].squareRoot())
      x[index] = max(x[index], loudness)
      w[index] = max(w[index], weightPeaks[channel])
    }
    return zip(x, w).map { x, w in
      let factor = x > 0 && w > 0 ? powf(x, migration.inputs) / powf(w, migration.weights) : 1
      return factor.isNormal ? factor : 1
    }
  }

  func total(_ factors: [Float]) -> Double {
    let s = factorIndex.map { factors[$0] }
    var total = 0.0
    if let activations = scheme.activations {
      let energies = zip(s, columnEnergies).map { Double($0 * $0) * $1 }
      if case .dynamicPerToken(.int8) = activations {
        // In a token with a large maximum, values below half a quantization step round to zero, so
        // their error is smaller than the uniform-noise model predicts.
        total +=
          12 / Double(max(1, sample.rows))
          * sample.roundingEnergy(
            scaledBy: s.map { 1 / $0 }, weights: energies.map(Float.init), largest: 127)
      } else {
        total += squaredPeak(s, activations) / (127 * 127) * energies.reduce(0, +)
      }
    }
    if sparse == .deviation {
      // The bulk ends at three standard deviations of |w| and has seven codes. For normal weights
      // the standard deviation of |w| is 0.603 of a row's root mean square.
      let step = 3 * 0.603 / 7
      let inputs = zip(s, meanSquare).reduce(0.0) { $0 + $1.1 / Double($1.0 * $1.0) }
      let rows = zip(s, columnEnergies).reduce(0.0) { $0 + Double($1.0 * $1.0) * $1.1 }
      return (total + step * step / Double(s.count) * rows * inputs) / 12
    }
    // With codes up to 7, the bulk ends at about half of a row's largest weight.
    let largest = sparse == nil ? Double(scheme.weights.largestCode) : 14
    for weight in weights {
      let grid = scheme.weights.grid(outputs: weight.rows, inputs: s.count)
      let span = grid.columns
      let peaks = weight.squaredPeaks(scaledBy: s, span: span, band: grid.rows)
      for (group, peak) in peaks.enumerated() {
        var energy = 0.0
        for channel in group * span..<min(s.count, (group + 1) * span) {
          energy += meanSquare[channel] / Double(s[channel] * s[channel])
        }
        total += peak / (largest * largest) * energy
      }
    }
    return total / 12
  }

  /// Square of the magnitude that sets a token's quantization step: the token's own largest value,
  /// or the largest of all tokens.
  private func squaredPeak(_ s: [Float], _ activations: ActivationScheme) -> Double {
    if case .dynamicPerToken = activations {
      let peaks = sample.squaredPeaks(scaledBy: s.map { 1 / $0 }, span: sample.columns)[0]
      return peaks / Double(max(1, sample.rows))
    }
    if activations == .staticAsymmetric {
      // An asymmetric range: its two ends differ.
      let high = zip(columns.high, s).reduce(0) { max($0, $1.0 / $1.1) }
      let low = zip(columns.low, s).reduce(0) { min($0, $1.0 / $1.1) }
      let half = Double(high) / 2 - Double(low) / 2
      return half * half
    }
    let peak = zip(peaks, s).reduce(0) { max($0, $1.0 / $1.1) }
    return Double(peak) * Double(peak)
  }
}
