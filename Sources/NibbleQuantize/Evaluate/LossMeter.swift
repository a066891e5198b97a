import Foundation
import NibbleTensor

/// Sums losses and comparisons over positions, in the order in which they are given.
struct LossMeter {
  private(set) var count = 0
  private var loss = 0.0
  private var baseLoss = 0.0
  private var divergence = 0.0
  private var agreeing = 0

  mutating func add(_ losses: [Double]) {
    count += losses.count
    for value in losses { loss += value }
  }

  mutating func add(_ rows: [TokenComparison]) {
    count += rows.count
    for row in rows {
      loss += row.loss
      baseLoss += row.baseLoss
      divergence += row.divergence
      agreeing += row.agrees ? 1 : 0
    }
  }

  /// Whether all sums are finite: no model gave NaN or infinity at any position.
  var isFinite: Bool { loss.isFinite && baseLoss.isFinite && divergence.isFinite }

  var perplexity: Double { exp(loss / Double(max(1, count))) }

  /// Nil when nothing was scored.
  var comparison: Evaluation.Comparison? {
    guard count > 0 else { return nil }

    let tokens = Double(count)
    return Evaluation.Comparison(
      kl: divergence / tokens, top1: Double(agreeing) / tokens,
      basePerplexity: exp(baseLoss / tokens))
  }
}
