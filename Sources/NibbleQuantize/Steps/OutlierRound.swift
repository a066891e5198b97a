import NibbleModel
public import NibbleTensor

/// Rounds weights to int8 codes of which few are large: the bulk of a row lies in -7...7 and outliers
/// use up to 127 of the same scale, so that the codes compress.
///
/// Source: msmodelslim 26.1.0, W8A8S; with no outliers its W8A8.
public struct OutlierRound: Hashable, Sendable, Codable {
  public var rule: OutlierRule
  /// Whether each column makes up for the errors before it, with scales that serve the outputs, in
  /// codes that compress to no more than the rule's.
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
  /// Why the numbers make no sense, if they do not.
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
