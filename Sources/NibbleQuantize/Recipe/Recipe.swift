public import NibbleTensor

/// The quantization of a model: the scheme of its linear layers, the steps, and the quality limit.
public struct Recipe: Hashable, Sendable, Codable {
  public var name: String
  public var summary: String
  public var scheme: LinearScheme
  /// Run in order; the last one rounds.
  @StepList public var steps: [any Step] = [Round()]
  /// Whether the head is quantized too, untied from the embedding if necessary; embeddings stay
  /// float.
  public var quantizesHead = false
  /// Quantization of the KV cache; nil: none.
  public var cache: KeyValueScheme?
  /// Largest allowed mean KL divergence from the source on held-out text, nats per token.
  public var maxKL: Double

  /// How static ranges of inputs are found.
  public var inputRange = InputRangeMethod.searched

  /// The calibration tokens used for an expert; nil: those that its router sends to it.
  public var expertTokens: ExpertTokens?

  /// The calibration tokens used for an expert. The model's own states are routed either way.
  public enum ExpertTokens: String, Hashable, Sendable, Codable, CaseIterable {
    /// Those that its router sends to it. An expert without any is rounded from its weights alone.
    case routed
    /// All tokens.
    case all
  }

  /// Schemes of equal width, `scheme` first, of which each layer takes the one that loses least; empty
  /// when all layers take `scheme`. See ``FormatChoice``.
  public var candidates: [LinearScheme] = []
  /// Whether the candidates were compared, and `exceptions` name the layers that take another than
  /// the first.
  public internal(set) var hasChosen = false
  /// Whether candidates are still to be compared, which reads the weights.
  public var isUndecided: Bool { !candidates.isEmpty && !hasChosen }

  /// The scheme of most layers, or the candidates.
  public var schemeText: String {
    candidates.isEmpty
      ? "\(scheme)"
      : candidates.map { "\($0)" }.joined(separator: ", or ")
        + "; chosen by error for each layer"
  }

  /// Layers whose scheme differs from `scheme`; the first pattern that matches counts.
  public var exceptions: [Exception] = []

  /// The scheme of the layers whose path matches a pattern.
  public struct Exception: Hashable, Sendable, Codable {
    /// A module path in which `*` matches any characters.
    public var pattern: String
    /// Nil: the layers stay float.
    public var scheme: LinearScheme?

    public init(pattern: String, scheme: LinearScheme?) {
      self.pattern = pattern
      self.scheme = scheme
    }

    func matches(_ path: String) -> Bool { Pattern(pattern).matches(path) }
  }

  public init(
    name: String, summary: String, scheme: LinearScheme, steps: [any Step] = [Round()],
    maxKL: Double
  ) {
    self.name = name
    self.summary = summary
    self.scheme = scheme
    self.steps = steps
    self.maxKL = maxKL
  }

  /// The scheme of a layer; nil when it stays float.
  func scheme(of path: String) -> LinearScheme? {
    for exception in exceptions where exception.matches(path) { return exception.scheme }
    return scheme
  }

  /// The scheme of the head when it is quantized: eight bits in the layers' format with one scale
  /// per channel and, if the layers' activations are quantized, dynamic per-token inputs. The head
  /// is the most sensitive to rounding.
  func headScheme(of path: String) -> LinearScheme? {
    for exception in exceptions where exception.matches(path) { return exception.scheme }
    let format: WeightScheme.Format =
      scheme.weights.format == .e4m3 ? .e4m3 : .int(bits: 8, symmetric: true)
    return LinearScheme(
      weights: WeightScheme(format: format, granularity: .channel),
      activations: scheme.activations.map { .dynamicPerToken($0.format) })
  }

  private var schemes: [LinearScheme] { [scheme] + candidates + exceptions.compactMap(\.scheme) }

  var needs: StepNeeds {
    let isStatic = schemes.contains { $0.activations?.isStatic ?? false }
    var needs: StepNeeds = isStatic ? [.statistics] : []
    for step in steps { needs.formUnion(step.needs) }
    // Ranges of the KV cache come from the quantized model if it runs, otherwise from the source.
    if cache != nil, !needs.contains(.quantized) { needs.insert(.statistics) }
    return needs
  }

  /// The rounding for a recipe without calibration, and for the head in any recipe.
  var plainRound: Round {
    steps.lazy.compactMap { $0 as? Round }.first { $0.needs.isEmpty } ?? Round()
  }

  /// Whether a step needs calibration data.
  public var needsCalibration: Bool { !needs.isEmpty }

  /// Whether calibration text is needed: stored statistics are not enough.
  public var needsText: Bool {
    !needs.isDisjoint(with: [.quantized, .source])
      || needsCalibration && inputRange != .searched
  }

  /// Whether the codes are rounded for compression.
  public var isSparse: Bool {
    steps.last?.effects.contains(.compresses) ?? false
  }

  /// Its first smoothing step. Setting it replaces that step; a recipe without one does not change.
  public var smoothing: Smooth? {
    get {
      steps.lazy.compactMap { $0 as? Smooth }.first
    }
    set {
      guard let newValue,
        let index = steps.firstIndex(where: { $0 is Smooth })
      else { return }
      steps[index] = newValue
    }
  }

  /// Whether norms are written with a bias: shifting needs one, and msmodelslim's smoothing adds
  /// one.
  public var biasesNorms: Bool {
    steps.contains { $0.effects.contains(.biasesNorms) }
  }

  private var candidateFault: String? {
    guard !candidates.isEmpty else { return nil }
    guard candidates.count > 1, candidates[0] == scheme else {
      return "candidates are two schemes or more, the first of them the recipe's own"
    }
    let widths = Set(candidates.map(\.weights.format.numbers.bits))
    if widths.count > 1 {
      return "candidates have numbers of one width; of two, the wider would win"
    }
    if isSparse || candidates.contains(where: { $0.activations?.isStatic ?? false }) {
      return "candidates are compared before calibration; use dynamic or float activations"
    }
    return nil
  }

  /// The reason why a run cannot start before the candidates are compared; nil when it can.
  var undecidedFault: String? {
    isUndecided ? "the format of each layer is to be chosen first, by FormatChoice" : nil
  }

  /// The reason why the steps do not fit together; nil when they do.
  var fault: String? {
    guard let last = steps.last, last.rounds else {
      return "its last step must round: use round or gptq"
    }
    if let fault = candidateFault { return fault }
    if steps.dropLast().contains(where: \.rounds) { return "only its last step may round" }
    if let step = steps.first(where: { $0.effects.contains(.fitsNearest) }),
      (last as? Round)?.search != .extremes
    {
      return "\(type(of: step).name) fits the weights to the nearest codes; let round without a "
        + "search be the last step"
    }
    if expertTokens != nil, !needsCalibration {
      return "expert_tokens is for recipes that learn from text; leave it out"
    }
    for (index, step) in steps.enumerated() {
      let earlier = Array(steps[..<index])
      if step.effects.contains(.scalesNorms),
        earlier.contains(where: { $0.effects.contains(.shiftsNorms) })
      {
        return "smooth with shift comes after whatever else scales norms"
      }
      if let fault = step.fault(after: earlier, schemes) { return fault }
    }
    if quantizesHead, headScheme(of: Plan.commonHead)?.activations?.isStatic ?? false {
      return
        "the head's inputs have no range from calibration; use dynamic activations in the exception "
        + "that matches lm_head, or keep the head float"
    }
    return nil
  }
}
