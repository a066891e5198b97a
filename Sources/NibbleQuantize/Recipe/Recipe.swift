public import NibbleTensor

/// What to do to a model: the scheme of its linear layers, and how much worse it may get.
public struct Recipe: Hashable, Sendable, Codable {
  public var name: String
  public var summary: String
  public var scheme: LinearScheme
  /// In order; the last one rounds.
  public var steps: [Step] = [.round(Round())]
  /// The head too; embeddings always stay float.
  public var quantizesHead = false
  /// Largest mean KL divergence from the source on held-out text, nats a token.
  public var maxKL: Double

  /// Round to nearest, no data: int8 weights per channel, int8 activations per token.
  public static let w8a8 = Recipe(
    name: "w8a8", summary: "int8 weights and activations; half the size, integer arithmetic",
    scheme: LinearScheme(
      weights: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel),
      activations: .dynamicPerToken(.int8)),
    maxKL: 0.1)

  /// Round to nearest, no data: int8 weights, float activations.
  public static let w8a16 = Recipe(
    name: "w8a16", summary: "int8 weights, float activations; half the size, closest to the source",
    scheme: LinearScheme(
      weights: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel)),
    maxKL: 0.02)

  /// Round to nearest, no data: int4 weights in groups, float activations.
  public static let w4a16 = Recipe(
    name: "w4a16", summary: "int4 weights in groups, float activations; a quarter of the size",
    scheme: LinearScheme(
      weights: WeightScheme(format: .int(bits: 4, symmetric: true), granularity: .group(128))),
    maxKL: 0.6)

  /// Round to nearest, no data: FP8 weights per channel, FP8 activations per token.
  public static let fp8 = Recipe(
    name: "fp8", summary: "FP8 E4M3 weights and activations; half the size, for GPUs with FP8",
    scheme: LinearScheme(
      weights: WeightScheme(format: .e4m3, granularity: .channel),
      activations: .dynamicPerToken(.e4m3)),
    maxKL: 0.15)

  public static let presets = [w8a8, w8a16, w4a16, fp8]

  var needs: Step.Needs { steps.reduce(into: []) { $0.formUnion($1.needs) } }

  /// Whether a step learns from calibration text.
  public var needsCalibration: Bool { !needs.isEmpty }

  /// The preset called `name`, changed by options.
  ///
  /// - Parameters:
  ///   - group: inputs that share a scale; weight-only recipes only.
  ///   - symmetric: zero points or not; weight-only integer recipes only.
  public static func preset(
    _ name: String, group: Int? = nil, symmetric: Bool? = nil
  ) throws(QuantizeError) -> Recipe {
    guard var recipe = presets.first(where: { $0.name == name }) else {
      throw .unknownRecipe(name, known: presets.map(\.name))
    }
    if let group {
      guard recipe.scheme.activations == nil else {
        throw .recipeOption(
          recipe: name, option: "--group",
          reason: "its integer products need one scale per channel; groups go with w4a16 and w8a16")
      }
      guard group >= 2 else {
        throw .recipeOption(
          recipe: name, option: "--group", reason: "\(group) is too small; use 32, 64 or 128")
      }
      recipe.scheme.weights.granularity = .group(group)
    }
    if let symmetric {
      guard case .int(let bits, _) = recipe.scheme.weights.format,
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
