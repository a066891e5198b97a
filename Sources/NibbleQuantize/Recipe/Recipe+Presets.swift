import NibbleTensor

extension Recipe {
  private static func int(_ bits: Int, _ granularity: WeightScheme.Granularity) -> WeightScheme {
    WeightScheme(format: .int(bits: bits, symmetric: true), granularity: granularity)
  }

  private static let fp8Channel = WeightScheme(format: .e4m3, granularity: .channel)

  /// Round to nearest, no data: int8 weights per channel, int8 activations per token.
  public static let w8a8 = Recipe(
    name: "w8a8", summary: "int8 weights and activations; half the size, integer arithmetic",
    scheme: LinearScheme(weights: int(8, .channel), activations: .dynamicPerToken(.int8)),
    maxKL: 0.1)

  /// SmoothQuant with the strength searched per site.
  public static let w8a8Smooth = Recipe(
    name: "w8a8-smooth",
    summary: "w8a8 smoothed, from calibration text; the quick way to a good one",
    scheme: w8a8.scheme, steps: [Smooth(), Round(search: .shrink(steps: 10))],
    maxKL: 0.05)

  /// SmoothQuant with the strength searched per site, then GPTQ.
  public static let w8a8Best = Recipe(
    name: "w8a8-best", summary: "w8a8 smoothed and rounded by GPTQ; closest to the source",
    scheme: w8a8.scheme, steps: [Smooth(), GPTQ()], maxKL: 0.05)

  /// Static activations with searched ranges, and smoothing for them.
  public static let w8a8Static = Recipe(
    name: "w8a8-static",
    summary: "int8 with one fixed range for the inputs of a layer, as static engines need",
    scheme: LinearScheme(weights: int(8, .channel), activations: .staticAsymmetric),
    steps: [Smooth(), GPTQ()], maxKL: 0.3)

  /// SmoothQuant's levels: weights per tensor; activations per token, per tensor, static.
  /// Source: arXiv 2211.10438, table 2.
  public static let w8a8O1 = level(1, .dynamicPerToken(.int8))
  public static let w8a8O2 = level(2, .dynamicPerTensor(.int8))
  public static let w8a8O3 = level(3, .staticPerTensor(.int8))

  private static func level(_ level: Int, _ activations: ActivationScheme) -> Recipe {
    Recipe(
      name: "w8a8-o\(level)", summary: "SmoothQuant O\(level): weights per tensor, \(activations)",
      scheme: LinearScheme(weights: int(8, .tensor), activations: activations),
      steps: [Smooth(), Round()], maxKL: 0.5)
  }

  /// ZeroQuant without data: int8 in groups of 64 inputs. Its own 48 or 64 groups of rows are
  /// `row_groups` in a recipe file.
  public static let w8a8ZeroQuant = Recipe(
    name: "w8a8-zeroquant", summary: "int8 weights in groups of 64 inputs, int8 activations",
    scheme: LinearScheme(weights: int(8, .group(64)), activations: .dynamicPerToken(.int8)),
    maxKL: 0.1)

  /// ZeroQuant's W4/8: int8 attention, int4 feed-forward.
  public static let w4a8ZeroQuant: Recipe = {
    var recipe = Recipe(
      name: "w4a8-zeroquant",
      summary: "int8 attention and int4 feed-forward in groups of 64 inputs, int8 activations",
      scheme: w8a8ZeroQuant.scheme, maxKL: 1)
    recipe.exceptions = [
      Exception(
        pattern: "*.mlp.*",
        scheme: LinearScheme(weights: int(4, .group(64)), activations: .dynamicPerToken(.int8)))
    ]
    return recipe
  }()

  /// ZeroQuant with layer-by-layer distillation, LKD.
  public static let w8a8ZeroQuantLKD = w8a8ZeroQuant.distilled
  public static let w4a8ZeroQuantLKD = w4a8ZeroQuant.distilled

  private var distilled: Recipe {
    var recipe = self
    recipe.name += "-lkd"
    recipe.summary += ", after distillation block by block"
    recipe.steps = [Distill(), Round()]
    return recipe
  }

  /// Round to nearest, no data: int8 weights, float activations.
  public static let w8a16 = Recipe(
    name: "w8a16", summary: "int8 weights, float activations; half the size",
    scheme: LinearScheme(weights: int(8, .channel)), maxKL: 0.02)

  /// Round to nearest, no data: int4 weights in groups, float activations.
  public static let w4a16 = Recipe(
    name: "w4a16", summary: "int4 weights in groups, float activations; a quarter of the size",
    scheme: LinearScheme(weights: int(4, .group(128))), maxKL: 0.6)

  /// Scales searched by shrinking the range to lower the squared error, each input weighted by its
  /// mean square.
  public static let w4a16Searched = Recipe(
    name: "w4a16-searched",
    summary: "w4a16 with scales searched on calibration text; the quick way to a good one",
    scheme: w4a16.scheme, steps: [Round(search: .shrink(steps: 20))], maxKL: 0.4)

  /// AWQ: searched scales, searched clipping.
  public static let w4a16AWQ = Recipe(
    name: "w4a16-awq", summary: "w4a16 scaled and clipped by AWQ",
    scheme: w4a16.scheme, steps: [AWQ(), Round(search: .clip)], maxKL: 0.4)

  /// GPTQ in activation order.
  public static let w4a16GPTQ = Recipe(
    name: "w4a16-gptq", summary: "w4a16 rounded by GPTQ",
    scheme: w4a16.scheme, steps: [GPTQ()], maxKL: 0.4)

  /// GPTQ against the source's outputs: closer to SmolLM2 and to Gemma 3 270M than AWQ's scales and
  /// plain GPTQ (Benchmarks/RESULTS.md).
  public static let w4a16Best = Recipe(
    name: "w4a16-best",
    summary: "w4a16 rounded by GPTQ against the source's outputs; closest to the source",
    scheme: w4a16.scheme, steps: [GPTQ(aligning: Alignment(usesResidual: false))], maxKL: 0.3)

  /// Round to nearest, no data: FP8 weights per channel, FP8 activations per token.
  public static let fp8 = Recipe(
    name: "fp8", summary: "FP8 E4M3 weights and activations; half the size, for GPUs with FP8",
    scheme: LinearScheme(weights: fp8Channel, activations: .dynamicPerToken(.e4m3)), maxKL: 0.15)

  /// One FP8 scale per weight and one for its inputs, from calibration.
  public static let fp8Static = Recipe(
    name: "fp8-static", summary: "fp8 with one scale a weight and a fixed one for its inputs",
    scheme: LinearScheme(
      weights: WeightScheme(format: .e4m3, granularity: .tensor),
      activations: .staticPerTensor(.e4m3)),
    maxKL: 0.2)

  /// Microscaling FP4: each power-of-two scale is the better of two, by squared error.
  public static let mxfp4 = Recipe(
    name: "mxfp4",
    summary: "FP4 weights with power-of-two scales per 32 inputs; a quarter of the size",
    scheme: LinearScheme(weights: WeightScheme(format: .mxfp4, granularity: .group(32))),
    steps: [Round(search: .codes)], maxKL: 0.6)

  /// NVIDIA's FP4: each E4M3 scale is the best of all codes near it, by squared error.
  public static let nvfp4 = Recipe(
    name: "nvfp4", summary: "FP4 weights with FP8 scales per 16 inputs; closer than mxfp4",
    scheme: LinearScheme(weights: WeightScheme(format: .nvfp4, granularity: .group(16))),
    steps: [Round(search: .codes)], maxKL: 0.4)

  /// MoFQ: int8 or E4M3 for weights and activations, whichever loses less.
  public static let mofq8 = Recipe(
    name: "mofq8", summary: "int8 or FP8 for each layer, whichever loses less", among: [w8a8, fp8],
    maxKL: 0.15)

  /// MoFQ: integers or FP4 of 4.5 bits a weight, whichever loses less.
  public static let mofq4 = Recipe(
    name: "mofq4", summary: "int4 in groups of 32 or nvfp4 for each layer, whichever loses less",
    among: [w4a16Groups, nvfp4], steps: [Round(search: .codes)], maxKL: 0.4)

  private static let w4a16Groups = Recipe(
    name: "w4a16", summary: "", scheme: LinearScheme(weights: int(4, .group(32))), maxKL: 0.6)

  private init(
    name: String, summary: String, among recipes: [Recipe], steps: [any Step] = [Round()],
    maxKL: Double
  ) {
    self.init(
      name: name, summary: summary, scheme: recipes[0].scheme, steps: steps, maxKL: maxKL)
    candidates = recipes.map(\.scheme)
  }

  /// FP8 rounded by GPTQ.
  public static let fp8Best = Recipe(
    name: "fp8-best", summary: "fp8 rounded by GPTQ; closest to the source",
    scheme: fp8.scheme, steps: [GPTQ()], maxKL: 0.1)

  /// The same without GPTQ, in a third of the time.
  public static let w8a8StaticSmooth = Recipe(
    name: "w8a8-static-smooth", summary: "w8a8-static rounded to nearest; the quick way to it",
    scheme: w8a8Static.scheme,
    steps: [Smooth(), Round(search: .shrink(steps: 10))], maxKL: 0.4)

  /// msmodelslim's W8A8: extremes of weights, mean extremes of inputs.
  public static let w8a8MinMax = Recipe(
    name: "w8a8-minmax", summary: "w8a8-static by the plain rules of msmodelslim",
    scheme: w8a8Static.scheme, steps: [OutlierRound(rule: .none)], maxKL: 1
  ).finding(.mean)

  /// msmodelslim's W8A8S with its lowbit sigma rule, input ranges searched.
  public static let w8a8s = Recipe(
    name: "w8a8s", summary: "int8 whose codes compress to about 5 bits, for Ascend",
    scheme: w8a8Static.scheme, steps: [OutlierRound(rule: .rowDeviation(3))],
    maxKL: 1)

  private func finding(_ method: InputRangeMethod) -> Recipe {
    var recipe = self
    recipe.inputRange = method
    return recipe
  }

  public static let presets = [
    w8a8, w8a8Smooth, w8a8Best, w8a8Static, w8a8O1, w8a8O2, w8a8O3, w8a8ZeroQuant, w4a8ZeroQuant,
    w8a8ZeroQuantLKD, w4a8ZeroQuantLKD,
    w8a8StaticSmooth, w8a8MinMax, w8a8s, w8a16, w4a16, w4a16Searched, w4a16AWQ, w4a16GPTQ,
    w4a16Best, mxfp4, nvfp4, mofq4, fp8, fp8Static, fp8Best,
    mofq8,
  ]

  /// The preset called `name`, changed by options.
  ///
  /// - Parameters:
  ///   - group: inputs per scale; weight-only recipes only.
  ///   - symmetric: whether to leave out zero points; weight-only integer recipes only.
  public static func preset(
    _ name: String, group: Int? = nil, symmetric: Bool? = nil
  ) throws(QuantizeError) -> Recipe {
    guard var recipe = presets.first(where: { $0.name == name }) else {
      throw .unknownRecipe(name, known: presets.map(\.name))
    }
    if group != nil || symmetric != nil, !recipe.candidates.isEmpty {
      throw .recipeOption(
        recipe: name, option: group == nil ? "--asymmetric" : "--group",
        reason: "its candidates have schemes of their own; name others in a recipe file")
    }
    if let group {
      guard recipe.scheme.activations == nil else {
        throw .recipeOption(
          recipe: name, option: "--group",
          reason: "its integer products need one scale per channel; groups go with w4a16 and w8a16")
      }
      if let size = recipe.scheme.weights.format.group {
        throw .recipeOption(
          recipe: name, option: "--group",
          reason: "its groups have \(size) inputs by definition; leave it out")
      }
      guard group >= 2 else {
        throw .recipeOption(
          recipe: name, option: "--group", reason: "\(group) is too small; use 32, 64 or 128")
      }
      recipe.scheme.weights.granularity = .group(group)
    }
    if let symmetric {
      guard case .integer(let bits) = recipe.scheme.weights.format.numbers,
        symmetric || recipe.scheme.activations == nil
      else {
        throw .recipeOption(
          recipe: name, option: "--asymmetric",
          reason: "only weight-only integer recipes (w4a16, w8a16) have zero points")
      }
      recipe.scheme.weights.format = .int(bits: bits, symmetric: symmetric)
    }
    return recipe
  }
}
