import NibbleModel
public import NibbleTensor

/// Rounds weights to int8 codes that compress well: most of a row lies in -7...7, and outliers use
/// codes up to 127 of the same scale.
///
/// Source: msmodelslim 26.1.0, W8A8S; with no outliers its W8A8.
public struct OutlierRound: Hashable, Sendable, Codable {
  public var rule: OutlierRule
  /// Whether each column compensates the errors before it, with scales chosen for the output error,
  /// in codes that compress to no more bytes than the rule's.
  public var compensates = false

  public init(rule: OutlierRule) { self.rule = rule }

  func apply(
    to weight: FloatRows, scaleFormat: FloatFormat, on compute: Compute
  ) -> (QuantizedMatrix, outliers: Int) {
    let (scales, outliers) = rule.scales(of: weight, on: compute)
    let stored = scales.map { max(scaleFormat.round($0), .leastNormalMagnitude) }
    return (QuantizedMatrix(narrow: weight, scales: stored, on: compute), outliers)
  }
}

extension OutlierRule {
  /// The reason why the parameters are invalid; nil when they are valid.
  var fault: String? {
    switch self {
    case .none: nil
    case .rowDeviation(let factor):
      factor > 0 && factor <= 100 ? nil : "\(factor) deviations; use 3 to 4"
    case .rowShare(let share), .tensorShare(let share):
      share > 0 && share < 1 ? nil : "a share of \(share); use 0.01 to 0.1"
    }
  }
}
