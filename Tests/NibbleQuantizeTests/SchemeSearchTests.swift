import Foundation
import NibbleEngines
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct SchemeSearchTests {
  /// The least sum of values among all combinations within a cost.
  private func exhaustive(_ items: [[Knapsack.Option]], within cost: Int) -> Double? {
    var sums: [(cost: Int, value: Double)] = [(0, 0)]
    for item in items {
      sums = sums.flatMap { sum in item.map { (sum.cost + $0.cost, sum.value + $0.value) } }
    }
    return sums.filter { $0.cost <= cost }.map(\.value).min()
  }

  @Test func theKnapsackFindsWhatTryingAllFinds() {
    var random = SplitMix64(state: 21)
    for round in 0..<30 {
      let items = (0..<5).map { _ in
        (0..<Int(random.next() % 4) + 1).map { _ in
          Knapsack.Option(
            cost: 6 * Int(random.next() % 50), value: round == 0 ? 1 : random.nextUnit())
        }
      }
      let knapsack = Knapsack(items)
      var last = Double.infinity
      for cost in stride(from: knapsack.leastCost - 10, to: knapsack.largestCost + 10, by: 7) {
        let wanted = exhaustive(items, within: cost)
        let found = knapsack.best(within: cost)
        let value = found.map { zip(items, $0).reduce(0) { $0 + $1.0[$1.1].value } }
        #expect((value == nil) == (wanted == nil))
        guard let found, let value, let wanted else { continue }
        #expect(abs(value - wanted) < 1e-12)
        #expect(zip(items, found).reduce(0) { $0 + $1.0[$1.1].cost } <= cost)
        #expect(value <= last + 1e-12)
        last = value
      }
    }
  }

  /// Costs without a common divisor, too many for a table of single units.
  @Test func costsOfAnySizeStayWithinTheBound() throws {
    let items = (0..<6).map { item in
      (0..<3).map { option in
        Knapsack.Option(cost: 1_000_003 * (option + item) + 17 * option, value: Double(3 - option))
      }
    }
    let knapsack = Knapsack(items)
    for share in [0.0, 0.3, 0.7, 1] {
      let bound =
        knapsack.leastCost + Int(share * Double(knapsack.largestCost - knapsack.leastCost))
      let found = try #require(knapsack.best(within: bound))
      #expect(zip(items, found).reduce(0) { $0 + $1.0[$1.1].cost } <= bound)
    }
    #expect(knapsack.best(within: knapsack.leastCost - 1) == nil)
  }

  private static let candidates = [
    LinearScheme(
      weights: WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel)),
    LinearScheme(
      weights: WeightScheme(format: .int(bits: 4, symmetric: true), granularity: .group(64))),
    LinearScheme(
      weights: WeightScheme(format: .int(bits: 4, symmetric: false), granularity: .group(32))),
  ]

  private var base: Recipe {
    Recipe(name: "searched", summary: "", scheme: Self.candidates[0], maxKL: 99)
  }

  private func search(_ source: String) throws -> SchemeSearch {
    try SchemeSearch(
      Checkpoint(path: source), among: Self.candidates, base: base, exporter: CompressedTensors(),
      windows: [someTokens(24, below: 128, seed: 4), someTokens(16, below: 128, seed: 5)],
      on: Compute(threads: 2, precision: .f32))
  }

  private func bytes(_ folder: String) throws -> Int {
    try files(folder).filter { $0.key.hasSuffix(".safetensors") }.values.reduce(0) { $0 + $1.count }
  }

  @Test func everySizeIsKeptToTheByteAndNoneIsWorseThanOneScheme() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      let search = try search(source)
      let front = try search.front(points: 9)
      #expect(front.count >= 5)
      for (smaller, larger) in zip(front, front.dropFirst()) {
        #expect(smaller.bytes < larger.bytes && smaller.estimate > larger.estimate)
      }
      var last = Double.infinity
      let sizes = front.map(\.bytes) + front.map { $0.bytes + 1001 } + front.map { $0.bytes - 1 }
      for size in sizes.sorted() {
        guard let choice = try search.choice(within: size) else {
          #expect(size < front[0].bytes)
          continue
        }
        #expect(choice.bytes <= size && choice.estimate <= last)
        #expect(choice.layers.reduce(0, +) == 21)
        last = choice.estimate
      }
      // All layers in one scheme is one of the choices.
      for (index, scheme) in Self.candidates.enumerated() {
        var recipe = base
        recipe.scheme = scheme
        let plan = try TinyRun(recipe).plan(source)
        // Groups of 64 do not fit every layer.
        guard plan.refusals.isEmpty else { continue }
        let choice = try #require(try search.choice(within: plan.outputBytes))
        let alone = try SensitivityRun(
          Checkpoint(path: source), plan,
          windows: [someTokens(24, below: 128, seed: 4), someTokens(16, below: 128, seed: 5)],
          on: Compute(threads: 2, precision: .f32)
        ).run { _, _ in }
        #expect(choice.estimate <= alone.estimate + 1e-12, "\(index)")
      }
      // What is written has the size that was promised, and runs.
      let choice = front[3]
      let path = folder + "/recipe.yaml"
      try Data(choice.recipe.fileText(steps: ["round"]).utf8).write(
        to: URL(fileURLWithPath: path))
      let read = try Recipe(path: path)
      #expect(read.scheme == choice.recipe.scheme && read.exceptions == choice.recipe.exceptions)
      let report = try TinyRun(read).run(source, to: folder + "/out")
      #expect(try bytes(folder + "/out") == choice.bytes)
      #expect(try #require(report.verdict).kl < 5 * choice.estimate)
      let bound = try #require(try search.choice(losing: choice.estimate))
      #expect(bound.estimate <= choice.estimate && bound.bytes <= choice.bytes)
      #expect(try search.choice(losing: 0) == nil || search.choice(losing: 0)!.estimate == 0)
    }
  }

  /// Groups of 64 do not divide 96 inputs: those layers take another scheme or stay float.
  @Test func schemesThatDoNotFitALayerAreNotChosenForIt() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/source", config: [:])
      let search = try search(folder + "/source")
      let least = try #require(try search.front(points: 2).first)
      #expect(least.layers[1] > 0)
      let schemes = [least.recipe.scheme] + least.recipe.exceptions.compactMap(\.scheme)
      #expect(schemes.contains(Self.candidates[2]))
      for exception in least.recipe.exceptions where exception.pattern.hasSuffix("down_proj") {
        #expect(exception.scheme != Self.candidates[1])
      }
    }
  }

  /// What no scheme fits stays float in every choice.
  @Test func layersThatNoSchemeFitsStayFloat() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/source", config: [:])
      let search = try SchemeSearch(
        Checkpoint(path: folder + "/source"), among: [Self.candidates[1]], base: base,
        exporter: CompressedTensors(), windows: [someTokens(24, below: 128, seed: 4)],
        on: Compute(threads: 2, precision: .f32))
      let front = try search.front(points: 4)
      #expect(front.count >= 3)
      for choice in front {
        #expect(try search.choice(within: choice.bytes) != nil)
        let kept = choice.recipe.exceptions.filter { $0.scheme == nil }.map(\.pattern)
        #expect(kept.count { $0.hasSuffix("down_proj") } == 3)
      }
      #expect(throws: QuantizeError.self) {
        _ = try SchemeSearch(
          Checkpoint(path: folder + "/source"),
          among: [
            LinearScheme(
              weights: WeightScheme(
                format: .int(bits: 4, symmetric: true), granularity: .group(128)))
          ], base: base, exporter: CompressedTensors(), windows: [someTokens(9, below: 128)],
          on: Compute(threads: 1, precision: .f32))
      }
    }
  }

  @Test func everySchemeOfAPresetSurvivesAFile() throws {
    try inTemporaryFolder { folder in
      for preset in Recipe.presets where preset.candidates.isEmpty {
        var recipe = preset
        recipe.name = "a \"name\" with \\ in it"
        let path = folder + "/\(preset.name).yaml"
        try Data(recipe.fileText(steps: ["round"]).utf8).write(to: URL(fileURLWithPath: path))
        let read = try Recipe(path: path)
        #expect(read.scheme == recipe.scheme && read.exceptions == recipe.exceptions)
        #expect(read.name == recipe.name && read.maxKL == recipe.maxKL)
        #expect(read.quantizesHead == recipe.quantizesHead)
      }
    }
  }
}
