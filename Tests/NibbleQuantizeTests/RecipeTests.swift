import Foundation
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct RecipeTests {
  @Test func patternsAreRegularExpressionsOfStars() throws {
    var random = SplitMix(state: 11)
    func text(_ alphabet: [Character], _ longest: Int) -> String {
      String(
        (0..<Int.random(in: 0...longest, using: &random)).map { _ in
          alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
        })
    }
    var matched = 0
    for _ in 0..<20_000 {
      let pattern = text(["a", "b", ".", "*", "*", "é"], 7)
      let path = text(["a", "b", ".", "é"], 9)
      let expression = try NSRegularExpression(
        pattern: "\\A"
          + pattern.split(separator: "*", omittingEmptySubsequences: false)
          .map { NSRegularExpression.escapedPattern(for: String($0)) }.joined(separator: ".*")
          + "\\z", options: .dotMatchesLineSeparators)
      let expected =
        expression.firstMatch(in: path, range: NSRange(location: 0, length: path.utf16.count))
        != nil
      #expect(Pattern(pattern).matches(path) == expected, "\(pattern) on \(path)")
      matched += expected ? 1 : 0
    }
    #expect(matched > 1000)
  }

  @Test func aPatternOfManyStarsEndsSoon() {
    let pattern = Pattern(String(repeating: "*a", count: 500) + "*b")
    let path = String(repeating: "a", count: 20_000)
    let clock = ContinuousClock()
    let start = clock.now
    #expect(!pattern.matches(path))
    #expect(pattern.matches(path + "b"))
    #expect(clock.now - start < .seconds(20))
  }

  @Test func everyPresetIsSoundAndNamedOnce() {
    for recipe in Recipe.presets {
      #expect(recipe.fault == nil, "\(recipe.name)")
      #expect(recipe.maxKL > 0 && !recipe.summary.isEmpty)
    }
    #expect(Set(Recipe.presets.map(\.name)).count == Recipe.presets.count)
  }

  private static func recipe(
    _ steps: [any Step], _ format: WeightScheme.Format = .int(bits: 8, symmetric: true),
    _ granularity: WeightScheme.Granularity = .channel, _ activations: ActivationScheme? = nil
  ) -> Recipe {
    Recipe(
      name: "test", summary: "",
      scheme: LinearScheme(
        weights: WeightScheme(format: format, granularity: granularity), activations: activations),
      steps: steps, maxKL: 1)
  }

  private static let clipped: GPTQ = {
    var gptq = GPTQ()
    gptq.search = .clip
    return gptq
  }()

  private static let head: Recipe = {
    var recipe = Recipe.w8a8Static
    recipe.quantizesHead = true
    // No calibration sees what enters the head.
    recipe.exceptions = [Recipe.Exception(pattern: "lm_head", scheme: recipe.scheme)]
    return recipe
  }()

  private static let exception: Recipe = {
    var recipe = Recipe.w4a16GPTQ
    recipe.scheme.weights.granularity = .group(32)
    recipe.exceptions = [
      Recipe.Exception(
        pattern: "*.v_proj",
        scheme: LinearScheme(weights: WeightScheme(format: .e4m3, granularity: .tensor)))
    ]
    return recipe
  }()

  @Test(arguments: [
    recipe([]), recipe([Smooth()]), recipe([GPTQ(), Smooth()]),
    recipe([Round(), GPTQ()]), recipe([GPTQ()], .e4m3, .tensor),
    recipe([GPTQ()], .e4m3, .block(rows: 32, columns: 32)),
    recipe([GPTQ()], .int(bits: 8, symmetric: true), .rowGroups(4)),
    recipe([Round(search: .shrink(steps: 20))], .e4m3, .tensor),
    recipe([Round(search: .clip)], .e4m3), recipe([clipped]), head, exception,
    recipe([Round(search: .codes)]), recipe([Round(search: .clip)], .mxfp4, .group(32)),
    recipe([Smooth(shifts: true), AWQ(), Round()]),
  ])
  func whatDoesNotGoTogetherIsRefused(_ recipe: Recipe) throws {
    let reason = try #require(recipe.fault)
    #expect(!reason.isEmpty)
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/source", config: [:])
      #expect(throws: QuantizeError.unsoundRecipe(recipe: recipe.name, reason: reason)) {
        try TinyRun(recipe).plan(folder + "/source")
      }
    }
  }

  @Test func aPatternThatMatchesNothingIsAnError() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/source", config: [:])
      for pattern in ["*.mlp.down", "model.layers.3.*", "", "*.norm", "lm_head"] {
        var recipe = Recipe.w8a8
        recipe.exceptions = [
          Recipe.Exception(pattern: "*.down_proj", scheme: nil),
          Recipe.Exception(pattern: pattern, scheme: nil),
        ]
        do {
          _ = try TinyRun(recipe).plan(folder + "/source")
          Issue.record("\(pattern) matched")
        } catch QuantizeError.patternMatchedNothing(let found, let layers) {
          #expect(found == pattern && layers.contains("model.layers.0.self_attn.q_proj"))
        }
      }
    }
  }

  @Test func theFirstExceptionThatMatchesCounts() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      var recipe = Recipe.w8a8
      let fp8 = Recipe.fp8.scheme
      recipe.exceptions = [
        Recipe.Exception(pattern: "*.0.mlp.*", scheme: nil),
        Recipe.Exception(pattern: "*.mlp.*", scheme: fp8),
        Recipe.Exception(pattern: "*", scheme: Recipe.w8a16.scheme),
      ]
      let plan = try TinyRun(recipe).plan(source)
      for layer in plan.layers {
        #expect(layer.scheme == (layer.path.contains("mlp") ? fp8 : Recipe.w8a16.scheme))
        #expect(!layer.path.contains("layers.0.mlp"))
      }
      #expect(plan.layers.count == 7 * 3 - 3)
      #expect(plan.keptFloat.count { $0.path.contains("layers.0.mlp") && $0.isLinear } == 3)
    }
  }

  @Test func recipesSurviveJSON() throws {
    for recipe in Recipe.presets {
      let data = try JSONEncoder().encode(recipe)
      #expect(try JSONDecoder().decode(Recipe.self, from: data) == recipe)
    }
  }
}
