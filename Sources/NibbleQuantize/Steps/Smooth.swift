import Foundation
import NibbleModel
import NibbleTensor

/// Moves activation outliers into the weights: `s[c] = xmax[c]^α / wmax[c]^(1-α)`, then `x / s`,
/// `W · s`.
///
/// Leaves the block's function unchanged but for the norm's rounding. Source: SmoothQuant, arXiv
/// 2211.10438, eq. 4. Ours: `α` is searched per site; the output and down projections are smoothed
/// too, through value and up; a channel whose inputs are always zero keeps s = 1.
public struct Smooth: Step {
  public static let name = "smooth"

  /// Share of the quantization difficulty that moves into the weights, 0...1; nil: searched.
  public var strength: Float?
  /// Whether only activations after norms are smoothed, not the inputs of output and down
  /// projections. A rule that clips outliers would lose the magnitude moved into them.
  public var normsOnly = false
  /// Whether a center is also subtracted from each channel that a norm produces, where that lowers
  /// the noise: the norm gains a bias of `-z / s`, its linears one of `W z`. Source: Outlier
  /// Suppression+, arXiv 2304.09145, section 4.1; as msmodelslim's do_smooth.
  public var shifts = false
  /// Whether norms are written with a bias even without a shift, as msmodelslim does.
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

  public init(_ fields: RecipeFields?) throws {
    try fields?.allow(["strength", "norms_only", "shift", "norm_bias"])
    self.init(
      strength: try fields?.number("strength", in: 0...1),
      normsOnly: try fields?.flag("norms_only") ?? false,
      shifts: try fields?.flag("shift") ?? false,
      biasesNorms: try fields?.flag("norm_bias") ?? false)
  }

  public var needs: StepNeeds { [.statistics] }

  public var effects: StepEffects {
    var effects: StepEffects = [.scalesNorms]
    if shifts { effects.insert(.shiftsNorms) }
    if shifts || biasesNorms { effects.insert(.biasesNorms) }
    return effects
  }

  /// msmodelslim's `m1`: SmoothQuant with strength 0.5, after norms only.
  public static let m1 = Smooth(strength: 0.5, normsOnly: true, biasesNorms: true)
  /// In place of msmodelslim's `m2`, which smooths after norms with its own search: ours searches
  /// too.
  public static let m2 = Smooth(normsOnly: true, biasesNorms: true)
  /// msmodelslim's `m4`: strength 0.9, through value and up too.
  public static let m4 = Smooth(strength: 0.9, biasesNorms: true)

  public func apply(
    to block: inout WorkingBlock, _ context: inout StepContext
  ) throws(QuantizeError) -> [StepReport] {
    // Factors are all computed from the source's weights: a fold at one site changes the rows of
    // another.
    let choices = block.sites.compactMap { choice(at: $0, of: block, on: context.compute) }
    for choice in choices {
      let factors = block.fold(choice.factors, into: choice.site)
      if let centers = choice.centers {
        block.shift(by: zip(centers, factors).map(/), at: choice.site)
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

  /// The shift and exponents with the least noise; nil when a site stays unchanged.
  private func choice(
    at site: SiteShape, of block: WorkingBlock, on compute: Compute
  ) -> Choice? {
    let layers = block.layers
    guard site.followsNorm || !normsOnly, let statistics = block.seen[site.site],
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
      // An explicit strength is applied even if it increases the error.
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

  /// The smoothing of one site.
  private struct Choice {
    var site: SiteShape
    var migration: Migration
    var factors: [Float]
    var shift: Shift
    var centers: [Float]?
    var noise: Double
    /// Noise without smoothing.
    var plain: Double
  }

  /// The center that is subtracted from each channel.
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
