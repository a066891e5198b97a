import NibbleModel
import NibbleTensor
import Yams

/// Rounding against the source's outputs. A step that rounds site by site then rounds, instead of
/// the weight W, the weight whose outputs on the quantized model's inputs come closest to those of
/// W on the source's:
///
///     W* = W + (W D + C) (H + λ)⁻¹,  D = Σ (x - x̃) x̃ᵀ,  C = Σ (r - r̃) x̃ᵀ,  H = Σ x̃ x̃ᵀ
///
/// with x, x̃ the inputs of the site in the source and in the quantized model, and r, r̃ the hidden
/// states to which the site's linear adds its output. The loss of any rounded weight Q is then
/// `tr((W* - Q) H (W* - Q)ᵀ)` and a constant, so that GPTQ on W* minimizes `|W x - Q x̃|²`.
///
/// λ, and whether C is used, are those with the least error on calibration windows kept out of the
/// sums; W itself is a candidate too. Experts' inputs differ between the two models in their tokens,
/// so that their down projections are not aligned.
///
/// Source: Qronos, arXiv 2505.11695, theorem 1, without its first column's own rule; C as in
/// WaterSIC and LoaQ, arXiv 2509.06297.
public struct Alignment: Codable, Hashable, Sendable {
  /// λ as a share of the mean of diag(H); nil: chosen.
  public var damping: Float?
  /// Whether C may be used, for linears that end a branch.
  public var usesResidual = true

  public init(damping: Float? = nil, usesResidual: Bool = true) {
    self.damping = damping
    self.usesResidual = usesResidual
  }

  /// Reads `true`, `false`, or the settings `damping` and `residual`; nil for false.
  init?(_ node: Node) throws {
    if let isOn = node.bool {
      guard isOn else { return nil }
      return
    }
    let fields = try RecipeFields(node, "align")
    try fields.allow(["damping", "residual"])
    damping = try fields.number("damping", in: 1e-4...10)
    usesResidual = try fields.flag("residual") ?? true
  }

  /// Squares of the channels that are in memory beside those of the step.
  static let squares = 4
  /// Candidates of λ.
  static let dampings: [Float] = [0.003, 0.01, 0.05, 0.2, 0.5]
  /// Every tenth window is kept out of the sums that a candidate is computed from.
  package static func keepsOut(window: Int, of count: Int) -> Bool {
    count < 10 ? count > 1 && window == count - 1 : window % 10 == 9
  }
}

extension Alignment? {
  /// What a step needs that rounds site by site, aligned or not.
  var needs: StepNeeds { self == nil ? [.quantized] : [.quantized, .aligned] }

  /// Memory in bytes of such a step at a site: the moments, their factor and its work, and the sums
  /// of alignment.
  func memory(channels: Int) -> Int {
    4 * (5 + (self == nil ? 0 : Alignment.squares)) * channels * channels
  }
}

/// Sums over tokens at a site, from which the target of its linears is computed.
struct AlignedMoments {
  /// `Σ x̃ x̃ᵀ`.
  var inputs: GramMatrix
  /// `Σ (x - x̃) x̃ᵀ`.
  var drift: CrossMatrix
  /// `Σ (r - r̃) x̃ᵀ`; nil where the site's linear adds to no states.
  var residual: CrossMatrix?

  init(channels: Int, states: Int?) {
    inputs = GramMatrix(channels: channels)
    drift = CrossMatrix(rows: channels, columns: channels)
    residual = states.map { CrossMatrix(rows: $0, columns: channels) }
  }

  /// - Parameters:
  ///   - x: `[t, k]`, of the quantized model.
  ///   - source: the same of the source.
  ///   - states: `r - r̃`, `[t, hidden]`.
  mutating func add(_ x: [Float], source: [Float], states: [Float]?, on compute: Compute) {
    inputs.add(x, on: compute)
    drift.add(zip(source, x).map { $0 - $1 }, x, on: compute)
    if let states { residual?.add(states, x, on: compute) }
  }

  mutating func add(_ other: Self, on compute: Compute) {
    inputs.add(other.inputs)
    drift.add(other.drift)
    if let more = other.residual { residual?.add(more) }
  }

  mutating func finish(on compute: Compute) {
    inputs.finish(on: compute)
    drift.finish(on: compute)
    residual?.finish(on: compute)
  }

  /// `W D + C`, the right-hand side of the equations for `W* - W`.
  ///
  /// - Parameter weight: W, or as many of its rows as `spreadRows` picks.
  func pull(of weight: FloatRows, withResidual: Bool, on compute: Compute) -> FloatRows {
    var pull = weight.times(
      FloatRows(drift.values, columns: drift.columns), on: compute)
    if withResidual, let residual {
      let rows = FloatRows(residual.values, columns: weight.columns).spreadRows(weight.rows)
      pull.add(rows, times: 1, on: compute)
    }
    return pull
  }
}

/// What the linears of a site are rounded towards, and the moments of their inputs.
struct SiteTargets {
  /// H, from all windows.
  let moments: GramMatrix
  private let solver: Solver?
  /// What was chosen; nil without alignment.
  let summary: String?

  private struct Solver {
    let sums: AlignedMoments
    let factor: UpperFactor
    let usesResidual: Bool
  }

  /// Targets that are the weights themselves.
  init(_ moments: GramMatrix) {
    self.moments = moments
    (solver, summary) = (nil, nil)
  }

  /// - Parameters:
  ///   - fit: sums over the windows that candidates are computed from.
  ///   - check: those over the windows kept out; nil without any.
  ///   - weights: the linears of the site.
  init(
    _ alignment: Alignment, fit: consuming AlignedMoments, check: consuming AlignedMoments?,
    weights: [FloatRows], on compute: Compute
  ) {
    var sums = consume fit
    var choice: Choice? = Choice(damping: alignment.damping ?? 0.2, usesResidual: false)
    if let check = check.take() {
      choice = Self.choice(alignment, fit: sums, check: check, weights, on: compute)
      sums.add(check, on: compute)
    }
    moments = sums.inputs
    guard let choice, let factor = Self.factor(sums.inputs, choice.damping, on: compute) else {
      (solver, summary) = (nil, "left alone")
      return
    }
    solver = Solver(sums: sums, factor: factor, usesResidual: choice.usesResidual)
    summary =
      "damping \(choice.damping)"
      + (choice.usesResidual ? ", with the error of the states" : "")
  }

  private struct Choice {
    var damping: Float
    var usesResidual: Bool
  }

  /// Number of rows of all linears that candidates are compared on.
  private static let rows = 128

  /// The candidate with the least loss on the windows kept out; nil when none is better than W.
  private static func choice(
    _ alignment: Alignment, fit: AlignedMoments, check: AlignedMoments, _ weights: [FloatRows],
    on compute: Compute
  ) -> Choice? {
    let share = max(16, rows / max(1, weights.count))
    let parts = weights.map { $0.spreadRows(share) }
    func pulls(_ sums: AlignedMoments, _ withResidual: Bool) -> [FloatRows] {
      parts.map { sums.pull(of: $0, withResidual: withResidual, on: compute) }
    }
    // With C, all errors of the states count; without it, those of the site alone.
    let hasResidual = fit.residual != nil && alignment.usesResidual
    let wanted = pulls(check, hasResidual)
    let fits = (hasResidual ? [false, true] : [false]).map { ($0, pulls(fit, $0)) }
    var prepared = PreparedWeight(check.inputs.weight)
    prepared.pack(on: compute)
    var best: (choice: Choice, loss: Double)?
    for damping in alignment.damping.map({ [$0] }) ?? Alignment.dampings {
      guard let factor = factor(fit.inputs, damping, on: compute) else { continue }
      for (usesResidual, pulls) in fits {
        var loss = 0.0
        for (pull, wanted) in zip(pulls, wanted) {
          var change = pull
          factor.solve(&change, on: compute)
          loss += change.energy(under: prepared, on: compute)
          loss -=
            2
            * zip(change.values, wanted.values).reduce(0) {
              $0 + Double($1.0) * Double($1.1)
            }
        }
        if loss < best?.loss ?? 0 {
          best = (Choice(damping: damping, usesResidual: usesResidual), loss)
        }
      }
    }
    return best?.choice
  }

  /// The factor of `H + λ`; nil when H carries no information.
  private static func factor(
    _ moments: GramMatrix, _ damping: Float, on compute: Compute
  ) -> UpperFactor? {
    moments.damped(by: damping).flatMap {
      UpperFactor(of: $0, size: moments.channels, on: compute)
    }
  }

  /// W* of a weight of the site.
  func target(of weight: FloatRows, on compute: Compute) -> FloatRows {
    guard let solver else { return weight }
    var target = solver.sums.pull(
      of: weight, withResidual: solver.usesResidual, on: compute)
    solver.factor.solve(&target, on: compute)
    target.add(weight, times: 1, on: compute)
    return target.firstNonFinite(on: compute) == nil ? target : weight
  }
}
