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
  /// Also subtracts a center from each channel that a norm feeds, where that makes the noise smaller:
  /// the norm gains a bias of `-z / s`, its linears one of `W z`. Source: Outlier Suppression+, arXiv
  /// 2304.09145, section 4.1; as msmodelslim's do_smooth.
  public var shifts = false
  /// Whether norms are written with a bias even where nothing shifts, as msmodelslim leaves them.
  public var biasesNorms = false

  public init(
    strength: Float? = nil, normsOnly: Bool = false, shifts: Bool = false,
    biasesNorms: Bool = false
  ) {
    self.strength = strength
    self.normsOnly = normsOnly
    self.shifts = shifts
    self.biasesNorms = biasesNorms
  }

  /// msmodelslim's `m1`: SmoothQuant at a half, norms only.
  public static let m1 = Smooth(strength: 0.5, normsOnly: true, biasesNorms: true)
  /// Its `m2` moves what norms feed by a search of its own; this is ours.
  public static let m2 = Smooth(normsOnly: true, biasesNorms: true)
  /// Its `m4`: nine tenths, through value and up too.
  public static let m4 = Smooth(strength: 0.9, biasesNorms: true)

  func apply(
    to block: inout FloatBlock, seen: inout [Site: ActivationStatistics],
    layers: [Role: Plan.Layer],
    on compute: Compute
  ) -> [StepReport] {
    let isSparse = layers.values.contains(where: \.isSparse)
    // All factors from the source's weights: a fold at one site changes the rows of another.
    var chosen: [(site: Site, choice: Choice, report: StepReport)] = []
    for site in Site.allCases where !normsOnly || site.addsToStates == nil {
      guard let statistics = seen[site], site.folds(into: layers),
        let scheme = layers[site.roles[0]]?.scheme
      else { continue }
      let candidates =
        strength.map { [Migration(strength: $0)] }
        ?? (isSparse ? Migration.strengths : Migration.searched)
      var best: Choice?
      var plain = 0.0
      for shift in shifts && site.addsToStates == nil ? Shift.allCases : [.none] {
        let centers = shift.centers(statistics)
        let noise = SmoothingNoise(
          block, site, centers.map { statistics.shifted(by: $0, on: compute) } ?? statistics,
          scheme, sparse: isSparse ? (normsOnly ? .deviation : .peak) : nil, on: compute)
        if shift == .none {
          plain = noise.total([Float](repeating: 1, count: noise.factorCount))
        }
        let factorSets = candidates.map { noise.factors($0) }
        var totals = [Double](repeating: 0, count: candidates.count)
        unsafe totals.withUnsafeMutableBufferPointer { totals in
          compute.pool.run(candidates.count) { index, _ in
            unsafe totals[index] = noise.total(factorSets[index])
          }
        }
        for (index, migration) in candidates.enumerated()
        where totals[index] < best?.noise ?? (strength == nil ? plain : .infinity) {
          best = Choice(
            migration: migration, factors: factorSets[index], shift: shift, centers: centers,
            noise: totals[index])
        }
      }
      guard let best else { continue }
      chosen.append(
        (
          site, best,
          StepReport(
            step: "smooth", block: block.index, site: site,
            result: String(
              format: "%@%@, noise %.3f of unsmoothed", best.migration.description,
              best.shift == .none ? "" : " less \(best.shift.rawValue)", best.noise / plain))
        ))
    }
    for (site, choice, _) in chosen {
      let factors = block.fold(choice.factors, into: site, &seen, on: compute)
      if let centers = choice.centers {
        block.shift(by: zip(centers, factors).map(/), at: site, &seen, on: compute)
      }
    }
    return chosen.map(\.report)
  }

  /// What suits a site best so far.
  private struct Choice {
    var migration: Migration
    var factors: [Float]
    var shift: Shift
    var centers: [Float]?
    var noise: Double
  }

  /// What is subtracted from each channel.
  private enum Shift: String, CaseIterable {
    case none
    /// `(max + min) / 2`, as Outlier Suppression+ does.
    case center
    /// The mean over the sampled tokens.
    case mean

    func centers(_ statistics: ActivationStatistics) -> [Float]? {
      switch self {
      case .none: nil
      case .center: zip(statistics.columns.low, statistics.columns.high).map { $0 / 2 + $1 / 2 }
      case .mean: statistics.sample.columnMeans
      }
    }
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
  private let columns: ColumnStatistics
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
    columns = statistics.columns
    peaks = columns.peaks
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
    if activations == .staticAsymmetric {
      // Its range need not reach as far on one side as on the other.
      let high = zip(columns.high, s).reduce(0) { max($0, $1.0 / $1.1) }
      let low = zip(columns.low, s).reduce(0) { min($0, $1.0 / $1.1) }
      let half = Double(high) / 2 - Double(low) / 2
      return half * half
    }
    let peak = zip(peaks, s).reduce(0) { max($0, $1.0 / $1.1) }
    return Double(peak) * Double(peak)
  }
}
