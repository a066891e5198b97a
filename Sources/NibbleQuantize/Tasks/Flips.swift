import Foundation
public import NibbleFormats

/// Items that a model answers differently from its source, by the metric of the task.
///
/// Accuracy alone hides damage: as many answers may turn right as turn wrong.
/// Source: Dutta et al., Accuracy Is Not All You Need, arXiv 2407.09141.
public struct Flips: Sendable, Hashable {
  public var items: Int
  /// Right in the source, wrong in the model.
  public var lost: Int
  /// Wrong in the source, right in the model.
  public var won: Int
  /// Other answers than the source's, wrong to other wrong included.
  public var changed: Int
  /// Two-sided exact test that `lost` and `won` are equally likely: McNemar's, a binomial of
  /// `lost + won` with 1/2.
  public var pValue: Double
  /// Spearman correlation of the margins (best minus second value) of both; nil where all margins of
  /// one are equal, and for greedy tasks.
  public var marginCorrelation: Double?

  /// - Parameter source: the answers of the source to the same task.
  public init(of model: TaskResult, against source: TaskResult) {
    precondition(model.task == source.task, "answers to different tasks")
    items = model.scores.count
    (lost, won, changed) = (0, 0, 0)
    for index in 0..<items {
      let (now, before) = (model.isRight(index), source.isRight(index))
      lost += before && !now ? 1 : 0
      won += now && !before ? 1 : 0
      let isChanged =
        model.isGreedy
        ? now != before
        : model.choice(of: index, model.metric) != source.choice(of: index, model.metric)
      changed += isChanged ? 1 : 0
    }
    pValue = Self.mcNemar(lost, won)
    guard !model.isGreedy else { return }
    marginCorrelation = Self.rankCorrelation(
      (0..<items).map { Self.margin(model, $0) }, (0..<items).map { Self.margin(source, $0) })
  }

  /// Accuracy of the model minus that of the source, by right answers.
  public var accuracyChange: Double { Double(won - lost) / Double(items) }

  public var json: JSON {
    let count = Double(items)
    return [
      "right_to_wrong": JSON(lost), "wrong_to_right": JSON(won), "changed": JSON(changed),
      "flips": .number(Double(lost + won) / count),
      "changed_share": .number(Double(changed) / count),
      "accuracy_change": .number(accuracyChange), "p_value": .number(pValue),
      "margin_rank_correlation": marginCorrelation.map { .number($0) } ?? .null,
    ]
  }

  /// `min(1, 2 Σ_{i <= min(a, b)} C(a + b, i) / 2^(a + b))`.
  static func mcNemar(_ lost: Int, _ won: Int) -> Double {
    let count = lost + won
    guard lost != won else { return 1 }
    var logarithm = -Double(count) * log(2)
    var sum = 0.0
    for index in 0...min(lost, won) {
      sum += exp(logarithm)
      logarithm += log(Double(count - index)) - log(Double(index + 1))
    }
    return min(1, 2 * sum)
  }

  /// Best minus second of the compared values; 0 for a single choice.
  private static func margin(_ result: TaskResult, _ index: Int) -> Double {
    let values = result.compared(index, result.metric).sorted(by: >)
    return values.count > 1 ? values[0] - values[1] : 0
  }

  /// Pearson's correlation of the ranks, equal values sharing their mean rank.
  static func rankCorrelation(_ first: [Double], _ second: [Double]) -> Double? {
    let (x, y) = (ranks(first), ranks(second))
    let mean = Double(x.count + 1) / 2
    var (xy, xx, yy) = (0.0, 0.0, 0.0)
    for (a, b) in zip(x, y) {
      xy += (a - mean) * (b - mean)
      xx += (a - mean) * (a - mean)
      yy += (b - mean) * (b - mean)
    }
    return xx > 0 && yy > 0 ? xy / (xx * yy).squareRoot() : nil
  }

  private static func ranks(_ values: [Double]) -> [Double] {
    let order = values.indices.sorted { (values[$0], $0) < (values[$1], $1) }
    var ranks = [Double](repeating: 0, count: values.count)
    var start = 0
    while start < order.count {
      var end = start + 1
      while end < order.count, values[order[end]] == values[order[start]] { end += 1 }
      for place in start..<end { ranks[order[place]] = Double(start + end + 1) / 2 }
      start = end
    }
    return ranks
  }
}
