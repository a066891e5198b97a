public import NibbleModel
public import NibbleTensor

/// Rounds weights to int8 codes that compress well: most of a row lies in -7...7, and outliers use
/// codes up to 127 of the same scale.
///
/// Source: msmodelslim 26.1.0, W8A8S; with no outliers its W8A8.
public struct OutlierRound: Step {
  public static let name = "outlier_round"

  public var rule: OutlierRule
  /// Whether each column compensates the errors before it, with scales chosen for the output error,
  /// in codes that compress to no more bytes than the rule's.
  public var compensates = false
  /// With compensation: rounds against the source's outputs.
  public var alignment: Alignment?

  public init(rule: OutlierRule) { self.rule = rule }

  public init(_ fields: RecipeFields?) throws {
    try fields?.allow(["deviations", "row_share", "tensor_share", "compensate", "align"])
    var rules: [OutlierRule] = []
    if let factor = try fields?.number("deviations") { rules.append(.rowDeviation(factor)) }
    if let share = try fields?.number("row_share") { rules.append(.rowShare(share)) }
    if let share = try fields?.number("tensor_share") { rules.append(.tensorShare(share)) }
    guard rules.count < 2 else {
      throw RecipeFault("outlier_round has several rules; one says which values are outliers")
    }
    rule = rules.first ?? .none
    if let fault = rule.fault { throw RecipeFault("outlier_round: \(fault)") }
    compensates = try fields?.flag("compensate") ?? false
    guard !compensates || rule != .none else {
      throw RecipeFault("compensate of outlier_round needs a rule, whose size it keeps to")
    }
    alignment = try fields?.node("align").flatMap(Alignment.init)
    guard alignment == nil || compensates else {
      throw RecipeFault("align of outlier_round goes with compensate: true")
    }
  }

  public var needs: StepNeeds { compensates ? alignment.needs : [] }

  public var effects: StepEffects { rule == .none ? .rounds : [.rounds, .compresses] }

  public func fault(after earlier: [any Step], _ schemes: [LinearScheme]) -> String? {
    let codes = WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel)
    return schemes.allSatisfy { $0.weights == codes }
      ? nil : "outlier_round makes int8 weights with one scale per channel; use round"
  }

  public func memory(of block: BlockShape, window: Int) -> Int {
    compensates ? alignment.memory(channels: block.widest) : 0
  }

  public func apply(
    to block: inout WorkingBlock, _ context: inout StepContext
  ) throws(QuantizeError) -> [StepReport] {
    let (exporter, compute) = (context.exporter, context.compute)
    guard compensates else {
      for (id, layer) in block.layers {
        guard let weight = block.weight(id) else { continue }
        let (matrix, outliers) = round(
          weight, scaleFormat: exporter.scaleFormat(of: layer), on: compute)
        block.round(id, to: matrix, from: weight, outliers: outliers)
      }
      return []
    }
    return context.roundInOrder(&block, aligning: alignment) { block, site, targets in
      let factor = Factor(targets.moments, on: compute)
      for id in site.ids {
        guard let layer = block.layers[id], let weight = block.weight(id) else { continue }
        let (matrix, outliers) = round(
          targets.target(of: weight, on: compute), factor: factor,
          scaleFormat: exporter.scaleFormat(of: layer), on: compute)
        block.round(id, to: matrix, from: weight, outliers: outliers)
      }
    }
  }

  func round(
    _ weight: FloatRows, scaleFormat: FloatFormat, on compute: Compute
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
