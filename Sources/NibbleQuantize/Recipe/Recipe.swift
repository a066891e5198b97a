public import NibbleTensor

/// What to do to a model: the scheme of its linear layers, and how much worse it may get.
public struct Recipe: Hashable, Sendable, Codable {
  public var name: String
  public var summary: String
  public var scheme: LinearScheme
  /// In order; the last one rounds.
  public var steps: [Step] = [.round(Round())]
  /// The head too, untied from the embedding if it must be; embeddings always stay float.
  public var quantizesHead = false
  /// How the cache of keys and values is scaled; nil: not at all.
  public var cache: KeyValueScheme?
  /// Largest mean KL divergence from the source on held-out text, nats a token.
  public var maxKL: Double

  /// How static ranges of inputs are found.
  public var inputRange = InputRangeMethod.searched

  /// Which calibration tokens an expert learns from; nil: those that its router sends to it.
  public var expertTokens: ExpertTokens?

  /// Which calibration tokens an expert learns from. The model's own states are routed either way.
  public enum ExpertTokens: String, Hashable, Sendable, Codable, CaseIterable {
    /// Those that its router sends to it; an expert without any is rounded by its weights alone.
    case routed
    /// All of them.
    case all
  }

  /// Layers that differ from `scheme`; the first whose pattern matches counts.
  public var exceptions: [Exception] = []

  /// What layers become whose path matches a pattern.
  public struct Exception: Hashable, Sendable, Codable {
    /// A module path in which `*` stands for any characters.
    public var pattern: String
    /// Nil: they stay float.
    public var scheme: LinearScheme?

    public init(pattern: String, scheme: LinearScheme?) {
      self.pattern = pattern
      self.scheme = scheme
    }

    func matches(_ path: String) -> Bool { Pattern(pattern).matches(path) }
  }

  public init(
    name: String, summary: String, scheme: LinearScheme, steps: [Step] = [.round(Round())],
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

  /// The scheme of the head, when it is quantized: eight bits in the layers' format, a scale a channel,
  /// and if theirs are rounded, inputs with a scale a token. The head is where rounding shows most.
  func headScheme(of path: String) -> LinearScheme? {
    for exception in exceptions where exception.matches(path) { return exception.scheme }
    let format: WeightScheme.Format =
      scheme.weights.format == .e4m3 ? .e4m3 : .int(bits: 8, symmetric: true)
    return LinearScheme(
      weights: WeightScheme(format: format, granularity: .channel),
      activations: scheme.activations.map { .dynamicPerToken($0.format) })
  }

  private var schemes: [LinearScheme] { [scheme] + exceptions.compactMap(\.scheme) }

  var needs: Step.Needs {
    let isStatic = schemes.contains { $0.activations?.isStatic ?? false }
    var needs: Step.Needs = isStatic ? [.statistics] : []
    for step in steps { needs.formUnion(step.needs) }
    // Keys and values are watched in the quantized model where it runs, else in the source.
    if cache != nil, !needs.contains(.quantized) { needs.insert(.statistics) }
    return needs
  }

  /// Whether a step learns from calibration text.
  public var needsCalibration: Bool { !needs.isEmpty }

  /// Whether kept statistics are not enough for it.
  public var needsText: Bool {
    needs.contains(.quantized) || needsCalibration && inputRange != .searched
  }

  /// Whether the codes are made to be compressed.
  public var isSparse: Bool {
    if case .outlierRound(let round)? = steps.last { round.rule != .none } else { false }
  }

  /// Its first step that smooths. Setting it changes that step; a recipe without one stays as it is.
  public var smoothing: Smooth? {
    get {
      for case .smooth(let smooth) in steps { return smooth }
      return nil
    }
    set {
      guard let newValue,
        let index = steps.firstIndex(where: { if case .smooth = $0 { true } else { false } })
      else { return }
      steps[index] = .smooth(newValue)
    }
  }

  /// Whether norms are written with a bias, as shifting needs and msmodelslim's smoothing does.
  public var biasesNorms: Bool {
    steps.contains { step in
      if case .smooth(let smooth) = step { smooth.shifts || smooth.biasesNorms } else { false }
    }
  }

  /// Why the steps do not make sense together, if they do not.
  var fault: String? {
    guard let last = steps.last, last.rounds else {
      return "its last step must round: use round or gptq"
    }
    if steps.dropLast().contains(where: \.rounds) { return "only its last step may round" }
    for (index, step) in steps.enumerated() {
      if case .smooth(let smooth) = step, smooth.shifts,
        steps[(index + 1)...].contains(where: \.scalesNorms)
      {
        return "smooth with shift comes after whatever else scales norms"
      }
    }
    if case .outlierRound = last {
      let codes = WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel)
      guard schemes.allSatisfy({ $0.weights == codes }) else {
        return "outlier_round makes int8 weights with a scale a channel; use round"
      }
    }
    if case .gptq = last {
      for scheme in schemes {
        switch scheme.weights.granularity {
        case .channel, .group: continue
        case .tensor, .block, .rowGroups:
          return "gptq rounds row by row and cannot share scales between rows, as "
            + "\(scheme.weights) does; use round"
        }
      }
    }
    switch last {
    case .gptq(let gptq) where gptq.search == .clip:
      return "gptq does not search by clip; use shrink or extremes"
    case .round(let round)
    where round.search == .clip && schemes.contains { $0.weights.format == .e4m3 }:
      return "clip searches integer ranges, and a layer has fp8 weights; use shrink or extremes"
    default: break
    }
    if quantizesHead, headScheme(of: Plan.commonHead)?.activations?.isStatic ?? false {
      return
        "the head's inputs have no range from calibration; use dynamic activations in the exception "
        + "that matches lm_head, or keep the head float"
    }
    if last.searches, schemes.contains(where: { $0.weights.granularity.sharesRows }) {
      return "a searched scale belongs to one row, and \(scheme.weights) shares scales between rows"
    }
    return nil
  }
}
