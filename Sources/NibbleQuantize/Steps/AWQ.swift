import Foundation
import NibbleModel
import NibbleTensor

/// Scales up the channels with the largest activations before rounding, so that their weights keep
/// more precision: `s = mean|x|^r`, optionally divided by the same statistic of the weights, with
/// `r` searched.
///
/// Source: AWQ, arXiv 2306.00978, and AutoAWQ 0.2.9 `_search_best_scale`. Ours: the loss is `tr(ΔW
/// H ΔWᵀ)` over the linears of a site, over all tokens and at most 512 outputs of each; no scaling
/// is a candidate too; value channels that feed output are scaled under grouped queries too.
public struct AWQ: Step {
  public static let name = "awq"

  /// Candidate ratios `r` are the multiples of `1 / steps` in 0...1.
  public var steps = 20

  public init() {}

  public init(_ fields: RecipeFields?) throws {
    try fields?.allow(["steps"])
    if let steps = try fields?.count("steps", in: 1...200) { self.steps = steps }
  }

  public var needs: StepNeeds { [.statistics, .moments] }
  public var effects: StepEffects { .scalesNorms }

  public func apply(
    to block: inout WorkingBlock, _ context: inout StepContext
  ) throws(QuantizeError) -> [StepReport] {
    let compute = context.compute
    var reports: [StepReport] = []
    var chosen: [(SiteShape, [Float])] = []
    for site in block.sites {
      guard let statistics = block.seen[site.site], let moments = statistics.moments,
        site.folds(into: block.layers), let layer = block.layers[site.ids[0]]
      else { continue }
      let loss = ScalingLoss(
        block, site, statistics, moments, layer.scheme.weights,
        context.exporter.scaleFormat(of: layer), on: compute)
      let plain = loss.value([Float](repeating: 1, count: loss.factorCount), on: compute)
      var best: (factors: [Float], loss: Double, step: Int, isDuo: Bool)?
      for step in 0...steps {
        for isDuo in [false, true] where isDuo || step > 0 {
          let factors = loss.factors(ratio: Float(step) / Float(steps), isDuo: isDuo)
          let value = loss.value(factors, on: compute)
          if value < best?.loss ?? plain { best = (factors, value, step, isDuo) }
        }
      }
      guard let best else { continue }
      chosen.append((site, best.factors))
      reports.append(
        StepReport(
          step: "awq", block: block.index, site: site.site,
          result: String(
            format: "ratio %.2f%@, loss %.3f of unscaled", Float(best.step) / Float(steps),
            best.isDuo ? " duo" : "", best.loss / plain)))
    }
    for (site, factors) in chosen { block.fold(factors, into: site) }
    return reports
  }
}

/// Output error of a site's linears after rounding, `Σ tr(ΔW H ΔWᵀ)`, for candidate factors.
struct ScalingLoss {
  private let factorIndex: [Int]
  /// Some outputs of each linear, and how many outputs each of them represents.
  private let weights: [(part: FloatRows, share: Double)]
  private let activation: [Float]
  private let weightShare: [Float]
  private let moments: PreparedWeight
  /// Largest number of outputs of each linear that are rounded per candidate, and of all linears
  /// together where there are many, as with experts.
  static let lossRows = 512
  static let allLossRows = 4096
  private let scheme: WeightScheme
  private let scaleFormat: FloatFormat

  var factorCount: Int { (factorIndex.max() ?? -1) + 1 }

  init(
    _ block: WorkingBlock, _ site: SiteShape, _ statistics: ActivationStatistics,
    _ moments: GramMatrix,
    _ scheme: WeightScheme, _ scaleFormat: FloatFormat, on compute: Compute
  ) {
    factorIndex = site.factorIndex
    let weights = site.ids.compactMap(block.weight)
    let rowLimit = min(Self.lossRows, max(16, Self.allLossRows / max(1, weights.count)))
    self.weights = weights.map { weight in
      let part = weight.spreadRows(rowLimit)
      return (part, Double(weight.rows) / Double(max(1, part.rows)))
    }
    activation = statistics.meanMagnitude
    var prepared = PreparedWeight(moments.weight)
    prepared.pack(on: compute)
    self.moments = prepared
    self.scheme = scheme
    self.scaleFormat = scaleFormat
    let span = scheme.grid(outputs: 1, inputs: statistics.channels).columns
    var share = [Float](repeating: 0, count: statistics.channels)
    var rows: Float = 0
    for weight in weights {
      rows += Float(weight.rows)
      for row in 0..<weight.rows {
        for start in stride(from: 0, to: weight.columns, by: span) {
          let part = row * weight.columns + start
          let count = min(span, weight.columns - start)
          var peak: Float = 1e-6
          for i in part..<part + count { peak = max(peak, abs(weight.values[i])) }
          for i in 0..<count { share[start + i] += abs(weight.values[part + i]) / peak }
        }
      }
    }
    weightShare = share.map { $0 / max(1, rows) }
  }

  func factors(ratio: Float, isDuo: Bool) -> [Float] {
    var x = [Float](repeating: 0, count: factorCount)
    var w = x
    var count = x
    for (channel, index) in factorIndex.enumerated() {
      x[index] += activation[channel]
      w[index] += weightShare[channel]
      count[index] += 1
    }
    var factors = x.indices.map { index -> Float in
      let x = x[index] / count[index]
      let w = w[index] / count[index]
      return max(powf(x, ratio) / (isDuo ? powf(w, 1 - ratio) + 1e-4 : 1), 1e-4)
    }
    let middle = ((factors.max() ?? 1) * (factors.min() ?? 1)).squareRoot()
    for index in factors.indices {
      factors[index] /= middle
      if !factors[index].isFinite || factors[index] <= 0 { factors[index] = 1 }
    }
    return factors
  }

  func value(_ factors: [Float], on compute: Compute) -> Double {
    let s = factorIndex.map { factors[$0] }
    let inverse = s.map { 1 / $0 }
    var total = 0.0
    for (weight, share) in weights {
      var scaled = weight
      scaled.scaleColumns(by: s, on: compute)
      let codes = QuantizedMatrix(
        nearest: scaled,
        to: WeightRounding(scheme: scheme, scaleFormat: scaleFormat, search: .extremes),
        on: compute)
      var error = FloatRows(.quantized(codes, inputs: nil), on: compute)
      error.scaleColumns(by: inverse, on: compute)
      error.add(weight, times: -1, on: compute)
      total += share * error.energy(under: moments, on: compute)
    }
    return total
  }
}
