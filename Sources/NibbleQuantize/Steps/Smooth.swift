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
    layers: [LinearID: Plan.Layer],
    on compute: Compute
  ) -> [StepReport] {
    // All factors from the source's weights: a fold at one site changes the rows of another.
    let choices = block.sites.compactMap { choice(at: $0, of: block, seen, layers, on: compute) }
    for choice in choices {
      let factors = block.fold(choice.factors, into: choice.site, &seen, on: compute)
      if let centers = choice.centers {
        block.shift(by: zip(centers, factors).map(/), at: choice.site, &seen, on: compute)
      }
    }
    return choices.map { choice in
      StepReport(
        step: "smooth", block: block.index, site: choice.site.site,
        result: String(
          format: "%@%@, noise %.3f of unsmoothed", choice.migration.description,
          choice.shift == .none ? "" : " less \(choice.shift.rawValue)", choice.noise / choice.plain
        ))
    }
  }

  /// The quietest of all shifts and migrations; nil when a site stays as it is.
  private func choice(
    at site: SiteShape, of block: FloatBlock, _ seen: [Site: ActivationStatistics],
    _ layers: [LinearID: Plan.Layer], on compute: Compute
  ) -> Choice? {
    guard site.followsNorm || !normsOnly, let statistics = seen[site.site],
      site.folds(into: layers), let scheme = layers[site.ids[0]]?.scheme
    else { return nil }
    let isSparse = layers.values.contains(where: \.isSparse)
    let candidates =
      strength.map { [Migration(strength: $0)] }
      ?? (isSparse ? Migration.strengths : Migration.searched)
    var best: Choice?
    var plain = 0.0
    for shift in shifts && site.followsNorm ? Shift.allCases : [.none] {
      let centers = shift.centers(statistics)
      let noise = SmoothingNoise(
        block, site, centers.map { statistics.shifted(by: $0, on: compute) } ?? statistics,
        scheme, sparse: isSparse ? (normsOnly ? .deviation : .peak) : nil, on: compute)
      if shift == .none {
        plain = noise.total([Float](repeating: 1, count: noise.factorCount))
      }
      var totals = [Double](repeating: 0, count: candidates.count)
      unsafe totals.withUnsafeMutableBufferPointer { totals in
        compute.pool.run(candidates.count) { index, _ in
          unsafe totals[index] = noise.total(noise.factors(candidates[index]))
        }
      }
      // What was asked for is done even where it does harm.
      let limit = best?.noise ?? (strength == nil ? plain : .infinity)
      guard
        let quietest = totals.indices.filter({ totals[$0] < limit })
          .min(by: { totals[$0] < totals[$1] })
      else { continue }
      best = Choice(
        site: site, migration: candidates[quietest], factors: noise.factors(candidates[quietest]),
        shift: shift, centers: centers, noise: totals[quietest], plain: plain)
    }
    return best
  }

  /// How a site is smoothed.
  private struct Choice {
    var site: SiteShape
    var migration: Migration
    var factors: [Float]
    var shift: Shift
    var centers: [Float]?
    var noise: Double
    /// The noise without smoothing.
    var plain: Double
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
