public import NibbleModel
public import NibbleTensor

/// Rounds a linear's columns in order, each to the nearest code after compensating the errors of
/// earlier columns. Errors are weighted with the second moments (Hessian) of the inputs.
///
/// Source: GPTQ, arXiv 2210.17323. Ours: the inputs are those of the quantized model, quantized as
/// the layer quantizes them; a channel whose inputs are always zero keeps its weights.
public struct GPTQ: Step {
  public static let name = "gptq"

  /// Added to diag(H), as a share of its mean.
  public var damping: Float = 0.01
  /// Whether columns are rounded by falling diag(H); groups and their scales do not change.
  public var activationOrder = true
  public var search = ScaleSearch.shrink(steps: 20)
  /// Rounds of refinement of integer codes and their scales after GPTQ has chosen them.
  public var refinements = 0
  /// Rounds against the source's outputs; nil: against those of the unrounded weight on the
  /// quantized model's inputs.
  public var alignment: Alignment?

  public init(aligning alignment: Alignment? = nil) { self.alignment = alignment }

  public init(_ fields: RecipeFields?) throws {
    try fields?.allow(["damping", "activation_order", "search", "refinements", "align"])
    if let count = try fields?.count("refinements", in: 0...20) { refinements = count }
    if let damping = try fields?.number("damping", in: 0...10) { self.damping = damping }
    if let order = try fields?.flag("activation_order") { activationOrder = order }
    if let search = try ScaleSearch(fields) { self.search = search }
    alignment = try fields?.node("align").flatMap(Alignment.init)
  }

  public var needs: StepNeeds { alignment.needs }
  public var effects: StepEffects { .rounds }

  public func memory(of block: BlockShape, window: Int) -> Int {
    alignment.memory(channels: block.widest)
  }

  public func fault(after earlier: [any Step], _ schemes: [LinearScheme]) -> String? {
    for scheme in schemes {
      switch scheme.weights.granularity {
      case .channel, .group: continue
      case .tensor, .block, .rowGroups:
        return "gptq rounds row by row and cannot share scales between rows, as "
          + "\(scheme.weights) does; use round"
      }
    }
    if search == .clip { return "gptq does not search by clip; use shrink or extremes" }
    return search.fault(schemes)
  }

  public func apply(
    to block: inout WorkingBlock, _ context: inout StepContext
  ) throws(QuantizeError) -> [StepReport] {
    for site in block.seen.keys { block.seen[site]?.forgetMoments() }
    let (exporter, compute) = (context.exporter, context.compute)
    return context.roundInOrder(&block, aligning: alignment) { block, site, targets in
      let feedback = feedback(targets.moments, on: compute)
      for id in site.ids {
        guard let layer = block.layers[id], let weight = block.weight(id) else { continue }
        let matrix = round(
          targets.target(of: weight, on: compute), feedback, scheme: layer.scheme.weights,
          scaleFormat: exporter.scaleFormat(of: layer), sharedPeak: block.sharedPeak(of: layer),
          on: compute)
        block.round(id, to: matrix, from: weight)
      }
    }
  }

  /// Computed from a site's moments, for all linears that read it.
  struct Feedback {
    let factor: UpperFactor
    let order: [Int]?
    /// `H + λ`, for refinements.
    let damped: [Float]?
  }

  /// - Parameter moments: H, the second moments of the inputs.
  func feedback(_ moments: GramMatrix, on compute: Compute) -> Feedback {
    let k = moments.channels
    var order: [Int]?
    if activationOrder {
      let diagonal = (0..<k).map { moments.values[$0 * k + $0] }
      order = (0..<k).sorted { (diagonal[$0], $1) > (diagonal[$1], $0) }
    }
    return Feedback(
      factor: Self.factor(moments, damping: damping, order: order, on: compute), order: order,
      damped: refinements > 0 ? moments.damped(by: max(damping, 1e-3)) : nil)
  }

  func round(
    _ weight: FloatRows, _ feedback: Feedback, scheme: WeightScheme, scaleFormat: FloatFormat,
    sharedPeak: Float = 0, on compute: Compute
  ) -> QuantizedMatrix {
    let matrix = QuantizedMatrix(
      feedback: weight,
      to: WeightRounding(
        scheme: scheme, scaleFormat: scaleFormat, search: search, sharedPeak: sharedPeak),
      factor: feedback.factor, order: feedback.order, on: compute)
    guard refinements > 0, let damped = feedback.damped else { return matrix }
    return matrix.refined(
      toward: weight, moments: damped, scaleFormat: scaleFormat, rounds: refinements, on: compute)
  }

  /// Factors `H + λ`, with more damping until it is positive definite in float. Moments that
  /// overflowed are replaced by those of independent inputs, with which GPTQ rounds to nearest.
  static func factor(
    _ moments: GramMatrix, damping: Float, order: [Int]?, on compute: Compute
  ) -> UpperFactor {
    let k = moments.channels
    var mean: Float = 0
    for j in order ?? Array(0..<k) { mean += moments.values[j * k + j] / Float(k) }
    if mean == 0 { mean = 1 }
    var share = damping
    let measures = mean < 1e30
    if !measures { (mean, share) = (1, 1) }
    while true {
      // Rebuilt for each attempt, which changes it in place, so that only one matrix is held beside
      // the moments.
      var damped = measures ? ordered(moments, order) : [Float](repeating: 0, count: k * k)
      for j in 0..<k { damped[j * k + j] += share * mean }
      if let factor = UpperFactor(of: damped, size: k, on: compute) { return factor }
      share = max(share * 10, 1e-3)
    }
  }

  private static func ordered(_ moments: GramMatrix, _ order: [Int]?) -> [Float] {
    guard let order else { return moments.values }
    let k = moments.channels
    var matrix = [Float](repeating: 0, count: k * k)
    for (row, from) in order.enumerated() {
      for (column, other) in order.enumerated() {
        matrix[row * k + column] = moments.values[from * k + other]
      }
    }
    return matrix
  }
}
