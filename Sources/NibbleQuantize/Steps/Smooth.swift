import Foundation
import NibbleModel
import NibbleTensor

/// Moves activation outliers into the weights: `s[c] = xmax[c]^α / wmax[c]^(1-α)`, then `x / s`,
/// `W · s`.
///
/// Leaves the block's function unchanged but for the norm's rounding. Source: SmoothQuant, arXiv
/// 2211.10438, eq. 4. Ours: `α` is searched for each site; the output and down projections are smoothed
/// too, through value and up; a silent channel keeps s = 1.
public struct Smooth: Hashable, Sendable, Codable {
  /// Share of the difficulty that moves into the weights, 0...1; nil: searched.
  public var strength: Float?
  /// Only what norms feed: the output and down projections stay as they are. A rule that cuts off
  /// outliers loses what would move into them.
  public var normsOnly = false

  public init(strength: Float? = nil, normsOnly: Bool = false) {
    self.strength = strength
    self.normsOnly = normsOnly
  }

  func apply(
    to block: inout FloatBlock, seen: inout [Site: ActivationStatistics],
    layers: [Role: Plan.Layer],
    on compute: Compute
  ) -> [StepReport] {
    let isSparse = layers.values.contains(where: \.isSparse)
    // All factors from the source's weights: a fold at one site changes the rows of another.
    var chosen: [(Site, [Float], StepReport)] = []
    for site in Site.allCases where !normsOnly || site.addsToStates == nil {
      guard let statistics = seen[site], site.folds(into: layers),
        let scheme = layers[site.roles[0]]?.scheme
      else { continue }
      let noise = SmoothingNoise(
        block, site, statistics, scheme,
        sparse: isSparse ? (normsOnly ? .deviation : .peak) : nil, on: compute)
      let candidates =
        strength.map { [Migration(strength: $0)] }
        ?? (isSparse ? Migration.strengths : Migration.searched)
      var best: (migration: Migration, factors: [Float], noise: Double)?
      let plain = noise.total([Float](repeating: 1, count: noise.factorCount))
      let factorSets = candidates.map { noise.factors($0) }
      var totals = [Double](repeating: 0, count: candidates.count)
      unsafe totals.withUnsafeMutableBufferPointer { totals in
        compute.pool.run(candidates.count) { index, _ in
          unsafe totals[index] = noise.total(factorSets[index])
        }
      }
      for (index, migration) in candidates.enumerated() {
        let (factors, total) = (factorSets[index], totals[index])
        if total < best?.noise ?? (strength == nil ? plain : .infinity) {
          best = (migration, factors, total)
        }
      }
      guard let best else { continue }
      chosen.append(
        (
          site, best.factors,
          StepReport(
            step: "smooth", block: block.index, site: site,
            result: String(
              format: "%@, noise %.3f of unsmoothed", best.migration.description,
              best.noise / plain))
        ))
    }
    for (site, factors, _) in chosen {
      block.fold(factors, into: site, &seen, on: compute)
    }
    return chosen.map(\.2)
  }
}

/// How factors follow from what a channel's inputs and weights say: `s = x^a / w^b`, with x the largest
/// magnitude of the inputs or their root mean square, w the largest of the weights.
struct Migration: CustomStringConvertible {
  enum Loudness: String { case peak, rms }
  var inputs: Float
  var weights: Float
  var loudness: Loudness

  /// SmoothQuant's: `x^α / w^(1-α)`.
  init(strength: Float) { self.init(.peak, strength, 1 - strength) }

  init(_ loudness: Loudness, _ inputs: Float, _ weights: Float) {
    (self.loudness, self.inputs, self.weights) = (loudness, inputs, weights)
  }

  /// SmoothQuant's strengths, all that serve codes whose steps outliers do not set.
  static let strengths = (0...20).map { Migration(strength: Float($0) / 20) }

  static let searched =
    strengths
    + (3...8).flatMap { a in (0...3).map { Migration(.rms, Float(a) / 10, Float($0) / 10) } }

  var description: String { "\(loudness.rawValue)^\(inputs) / w^\(weights)" }
}

/// What rounding at a site adds to the outputs of its linears, from statistics:
/// `E|W Δx|² + E|ΔW x|²` with every rounding error uniform in its step.
struct SmoothingNoise {
  private let factorIndex: [Int]
  private let peaks: [Float]
  private let weightPeaks: [Float]
  private let sample: FloatRows
  private let meanSquare: [Double]
  private let columnEnergies: [Double]
  private let weights: [FloatRows]
  private let scheme: LinearScheme
  /// What the step of a row with sparse codes follows.
  enum SparseStep { case peak, deviation }
  private let sparse: SparseStep?

  var factorCount: Int { (factorIndex.max() ?? -1) + 1 }

  init(
    _ block: FloatBlock, _ site: Site, _ statistics: ActivationStatistics, _ scheme: LinearScheme,
    sparse: SparseStep? = nil, on compute: Compute
  ) {
    self.scheme = scheme
    self.sparse = sparse
    factorIndex = block.factorIndex(of: site)
    peaks = statistics.columns.peaks
    sample = statistics.sample
    meanSquare = statistics.meanSquare
    weights = site.roles.compactMap { block.weights[$0] }
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

  /// Factors by the paper's formula; channels that share one take their largest peaks. One that is no
  /// normal number is 1.
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
        // Small values of a loud token lose less than a step's worth: they become zero.
        total +=
          12 / Double(max(1, sample.rows))
          * sample.roundingEnergy(
            scaledBy: s.map { 1 / $0 }, weights: energies.map(Float.init), largest: 127)
      } else {
        total += squaredPeak(s, activations) / (127 * 127) * energies.reduce(0, +)
      }
    }
    if sparse == .deviation {
      // The bulk ends at three deviations of |w|, of which a row's root mean square has 0.603 when
      // its weights are normal, and has seven codes.
      let step = 3 * 0.603 / 7
      let inputs = zip(s, meanSquare).reduce(0.0) { $0 + $1.1 / Double($1.0 * $1.0) }
      let rows = zip(s, columnEnergies).reduce(0.0) { $0 + Double($1.0 * $1.0) * $1.1 }
      return (total + step * step / Double(s.count) * rows * inputs) / 12
    }
    // A bulk of 7 ends at about half of a row's largest weight.
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

  /// The square of what the rounding step of a token follows: its own largest value, or that of all.
  private func squaredPeak(_ s: [Float], _ activations: ActivationScheme) -> Double {
    if case .dynamicPerToken = activations {
      let peaks = sample.squaredPeaks(scaledBy: s.map { 1 / $0 }, span: sample.columns)[0]
      return peaks / Double(max(1, sample.rows))
    }
    let peak = zip(peaks, s).reduce(0) { max($0, $1.0 / $1.1) }
    return Double(peak) * Double(peak)
  }
}
