import Foundation
import NibbleTensor

/// Sums losses and comparisons over positions, in the order in which they are given.
struct LossMeter {
  /// The kind of text of each token; nil when unknown.
  let kinds: TextKinds?
  private(set) var count = 0
  private var loss = 0.0
  private var baseLoss = 0.0
  private var divergence = 0.0
  private var agreeing = 0
  private var top5 = 0.0
  private var change = 0.0
  private var squaredChange = 0.0
  /// KL divergence of each compared position.
  private var divergences: [Float] = []
  /// Sums of the KL divergence and of the change of the loss, per window.
  private var windows: [Bootstrap.Window] = []
  private var byPosition = [PartSum](repeating: PartSum(), count: Divergence.positionBounds.count)
  private var byKind: [PartSum]

  private struct PartSum {
    var tokens = 0
    var divergence = 0.0
    var agreeing = 0

    mutating func add(_ row: TokenComparison) {
      tokens += 1
      divergence += row.divergence
      agreeing += row.agrees ? 1 : 0
    }
  }

  init(kinds: TextKinds? = nil) {
    self.kinds = kinds
    byKind = [PartSum](repeating: PartSum(), count: kinds?.names.count ?? 0)
  }

  mutating func add(_ losses: [Double]) {
    count += losses.count
    for value in losses { loss += value }
  }

  /// - Parameters:
  ///   - window: index of the window; not below that of an earlier call.
  ///   - position: index in its window of the first row.
  mutating func add(_ rows: [TokenComparison], window: Int, from position: Int) {
    count += rows.count
    while windows.count <= window { windows.append(Bootstrap.Window()) }
    windows[window].tokens += rows.count
    for (index, row) in rows.enumerated() {
      loss += row.loss
      baseLoss += row.baseLoss
      divergence += row.divergence
      agreeing += row.agrees ? 1 : 0
      top5 += row.top5
      change += row.probabilityChange
      squaredChange += row.probabilityChange * row.probabilityChange
      divergences.append(Float(row.divergence))
      windows[window].first += row.divergence
      windows[window].second += row.loss - row.baseLoss
      let at = position + index
      if let part = Divergence.positionBounds.lastIndex(where: { $0 <= at }) {
        byPosition[part].add(row)
      }
      if let kinds { byKind[kinds.windows[window][at + 1]].add(row) }
    }
  }

  /// Whether all sums are finite: no model gave NaN or infinity at any position.
  var isFinite: Bool { loss.isFinite && baseLoss.isFinite && divergence.isFinite }

  var perplexity: Double { exp(loss / Double(max(1, count))) }

  /// Mean KL divergence of the compared positions, nats.
  var kl: Double { divergence / Double(max(1, count)) }

  /// Nil when nothing was compared.
  var comparison: Evaluation.Comparison? {
    guard !divergences.isEmpty else { return nil }

    let tokens = Double(count)
    return Evaluation.Comparison(
      kl: kl, top1: Double(agreeing) / tokens, basePerplexity: exp(baseLoss / tokens),
      divergence: detail)
  }

  private var detail: Divergence {
    let tokens = Double(count)
    let sorted = Percentiles(divergences)
    let intervals = Bootstrap.intervals(windows)
    return Divergence(
      median: sorted[0.5], p90: sorted[0.9], p99: sorted[0.99], maximum: sorted[1],
      interval: intervals?.first, top5: top5 / tokens, probabilityChange: change / tokens,
      probabilityChangeRMS: (squaredChange / tokens).squareRoot(),
      lossChange: (loss - baseLoss) / tokens, lossChangeInterval: intervals?.second,
      windows: windows.count, byPosition: Self.parts(byPosition, Divergence.positionNames),
      byKind: Self.parts(byKind, kinds?.names ?? []))
  }

  /// The parts with at least one position.
  private static func parts(_ sums: [PartSum], _ names: [String]) -> [Divergence.Part] {
    zip(sums, names).filter { $0.0.tokens > 0 }.map { sum, name in
      let tokens = Double(sum.tokens)
      return Divergence.Part(
        name: name, tokens: sum.tokens, kl: sum.divergence / tokens,
        top1: Double(sum.agreeing) / tokens)
    }
  }
}
