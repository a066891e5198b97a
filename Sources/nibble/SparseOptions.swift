import ArgumentParser
import NibbleQuantize
import NibbleTensor

/// Options of static and sparse int8 recipes, named as in msmodelslim.
struct SparseOptions: ParsableArguments {
  @Flag(help: "w8a8s: outliers are found row by row.")
  var lowbit = false

  @Flag(help: "w8a8s: outliers are a share of the whole weight. --lowbit overrides it.")
  var coSparse = false

  @Flag(help: "w8a8s with --lowbit: outliers lie --sigma-factor deviations of |w| out.")
  var sigma = false

  @Option(help: "w8a8s: deviations of |w| from which on a weight is an outlier. Default: 3.")
  var sigmaFactor: Double?

  @Option(help: "w8a8s: share of the weights that are outliers. Default: 0.01.")
  var fraction: Double?

  @Flag(help: "w8a8s: make up for rounding errors column by column, at no greater compressed size.")
  var compensate = false

  @Flag(
    help: """
      Move activation outliers into the weights first; for w8a8s without --compensate by a shift too, as \
      msmodelslim.
      """
  )
  var smooth = false

  @Flag(
    help: """
      While smoothing, also center the channels that norms feed; for --for ascend, whose norms take a \
      bias.
      """)
  var shift = false

  @Option(
    help: """
      Smooth as msmodelslim's m1 (SmoothQuant at 0.5, norms only), m2 (norms only, searched) or m4 (0.9, \
      through value and up too), and write norms with a bias and as modules, as it does.
      """)
  var antiMethod: AntiMethod?

  @Option(
    help: """
      How static input ranges are found, as msmodelslim counts: 1 mean of the windows' extremes, 2 \
      histogram, 3 one or the other. Default: searched, or as the recipe says.
      """)
  var actMethod: Int?

  @Option(
    help: """
      L1, L2 and so on: leave as many layers float, those with the largest inputs for --lowbit, and those \
      whose largest inputs stand out most otherwise. Needs --statistics.
      """)
  var disableLevel: String?

  @Option(
    name: .customLong("keep-float"),
    help: """
      Layers to leave float: a pattern such as "*.mlp.down_proj"; a share of the weights of the linear \
      layers such as 5%, for those that cost most (nibble sensitivity); or auto, as many of those as it \
      takes to stay within --max-kl by the estimate. May be given again.
      """)
  var keepFloat: [KeepFloat] = []

  /// The value that needs a measurement.
  var measuredKeepFloat: KeepFloat? { keepFloat.first { $0.pattern == nil } }

  /// Number of layers that `--disable-level` leaves float.
  var disabledLayers: Int? {
    disableLevel.flatMap { Int($0.uppercased().hasPrefix("L") ? $0.dropFirst() : $0[...]) }
  }

  func validate() throws {
    if let disableLevel, !(0...100_000).contains(disabledLayers ?? -1) {
      throw ValidationError("--disable-level is \(disableLevel); use a level such as L5.")
    }
    guard keepFloat.count(where: { $0.pattern == nil }) < 2 else {
      throw ValidationError("--keep-float: give one share or auto.")
    }
    if let actMethod, !(1...3).contains(actMethod) {
      throw ValidationError("--act-method is \(actMethod); use 1, 2 or 3.")
    }
    guard actMethod != 3 || !lowbit else {
      throw ValidationError(
        "--act-method 3 does not go with --lowbit, as for msmodelslim; use 1 or 2.")
    }
    if let sigmaFactor, !(sigmaFactor > 0 && sigmaFactor <= 100) {
      throw ValidationError("--sigma-factor is \(sigmaFactor); use 3 to 4.")
    }
    if let fraction, !(fraction > 0 && fraction < 1) {
      throw ValidationError("--fraction is \(fraction); use 0.01 to 0.1.")
    }
  }

  private var choosesRule: Bool {
    lowbit || coSparse || sigma || sigmaFactor != nil || fraction != nil || compensate
  }

  /// The rule by msmodelslim's precedence: lowbit before co-sparse, sigma before fraction.
  private var rule: OutlierRule {
    if coSparse, !lowbit { return .tensorShare(fraction ?? 0.01) }
    if sigma || sigmaFactor != nil || fraction == nil && !lowbit {
      return .rowDeviation(sigmaFactor ?? 3)
    }
    return .rowShare(fraction ?? 0.01)
  }

  func apply(to recipe: inout Recipe) throws {
    if choosesRule {
      guard var round = recipe.steps.last as? OutlierRound, recipe.isSparse else {
        throw QuantizeError.recipeOption(
          recipe: recipe.name, option: "--lowbit, --co-sparse, --sigma, --fraction, --compensate",
          reason: "they say which weights are outliers, which w8a8s alone asks")
      }
      if lowbit, coSparse { Terminal.note("--lowbit overrides --co-sparse, as in msmodelslim") }
      if case .rowDeviation = rule, fraction != nil {
        Terminal.note("--sigma overrides --fraction, as in msmodelslim")
      }
      round.rule = rule
      round.compensates = compensate
      recipe.steps[recipe.steps.count - 1] = round
    }
    if smooth || antiMethod != nil, recipe.smoothing == nil {
      let followsRule = recipe.isSparse && !compensate
      recipe.steps.insert(Smooth(normsOnly: followsRule, shifts: followsRule), at: 0)
    }
    if let antiMethod { recipe.smoothing = antiMethod.smooth }
    if shift {
      guard recipe.smoothing != nil else {
        throw QuantizeError.recipeOption(
          recipe: recipe.name, option: "--shift", reason: "nothing is smoothed; add --smooth")
      }
      recipe.smoothing?.shifts = true
    }
    if let method = actMethod.flatMap({ InputRangeMethod(actMethod: $0) }) {
      guard recipe.scheme.activations?.isStatic ?? false else {
        throw QuantizeError.recipeOption(
          recipe: recipe.name, option: "--act-method",
          reason: "its inputs have no static range; use w8a8-static or w8a8s")
      }
      recipe.inputRange = method
    }
    recipe.exceptions.insert(
      contentsOf: keepFloat.compactMap(\.pattern).map {
        Recipe.Exception(pattern: $0, scheme: nil)
      }, at: 0)
  }
}

/// Smoothing methods of msmodelslim, by its names.
enum AntiMethod: String, ExpressibleByArgument, CaseIterable {
  case m1
  case m2
  case m4

  var smooth: Smooth {
    switch self {
    case .m1: .m1
    case .m2: .m2
    case .m4: .m4
    }
  }
}
