import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct DistillTests {
  private static let scheme = LinearScheme(
    weights: WeightScheme(format: .int(bits: 4, symmetric: true), granularity: .group(32)),
    activations: .dynamicPerToken(.int8))

  private func recipe(_ distill: Distill?, earlier: [any Step] = []) -> Recipe {
    Recipe(
      name: "distilled", summary: "", scheme: Self.scheme,
      steps: earlier + (distill.map { [$0] } ?? []) + [Round()], maxKL: 99)
  }

  private func distill(_ inputs: Distill.Inputs = .source, steps: Int = 60) -> Distill {
    var distill = Distill()
    distill.inputs = inputs
    distill.steps = steps
    distill.tokens = 128
    distill.rate = 0.02
    return distill
  }

  private func run(_ recipe: Recipe, windows: Int = 20) -> TinyRun {
    var run = TinyRun(recipe)
    run.windows.calibration = (0..<windows).map {
      someTokens(64, below: 128, seed: 100 + UInt64($0))
    }
    run.windows.heldOut = (0..<6).map { someTokens(64, below: 128, seed: 200 + UInt64($0)) }
    return run
  }

  /// The losses of each block, from the report.
  private func losses(_ folder: String) throws -> [[Double]] {
    let data = try Data(contentsOf: URL(fileURLWithPath: folder + "/nibble_report.json"))
    let steps = try JSON(parsing: Array(data))["steps"]?.array ?? []
    return steps.filter { $0["step"] == "distill" }.map {
      ($0["losses"]?.array ?? []).compactMap(\.double)
    }
  }

  /// Each block comes closer to the source's, and so does the model.
  @Test(arguments: Distill.Inputs.allCases)
  func theQuantizedModelComesCloserToTheSource(_ inputs: Distill.Inputs) throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      model.blocks = 4
      try model.write(in: folder + "/source", config: [:])
      var divergence: [Double] = []
      for recipe in [
        recipe(nil), recipe(distill(inputs)), recipe(distill(inputs), earlier: [AWQ()]),
      ] {
        let report = try run(recipe).run(folder + "/source", to: folder + "/\(divergence.count)")
        divergence.append(try #require(report.verdict).kl)
      }
      #expect(divergence[1] < divergence[0] && divergence[2] < divergence[0], "\(divergence)")
      let losses = try losses(folder + "/1")
      #expect(losses.count == 4)
      for losses in losses {
        #expect(losses.count == 7)
        // Most of what the blocks before lost cannot be won back.
        let share = inputs == .source ? 0.9 : 0.99
        #expect(losses.min()! < share * losses[0], "\(losses)")
      }
    }
  }

  /// With the source's inputs a block does not depend on how other blocks are rounded; with those of
  /// the quantized model it does.
  @Test func onlyTheQuantizedInputsTieBlocksTogether() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/source", config: [:])
      for inputs in Distill.Inputs.allCases {
        var codes: [Data] = []
        for leaves in [false, true] {
          var recipe = recipe(distill(inputs, steps: 20))
          if leaves {
            recipe.exceptions = [Recipe.Exception(pattern: "model.layers.0.*", scheme: nil)]
          }
          let output = folder + "/\(inputs)-\(leaves)"
          _ = try run(recipe, windows: 20).run(folder + "/source", to: output)
          let losses = try losses(output)
          // A block that stays float has nothing to learn.
          #expect(losses.count == (leaves ? 2 : 3))
          #expect(losses.allSatisfy { $0.min()! < $0[0] }, "\(losses)")
          let file = try SafetensorsFile(path: output + "/model.safetensors")
          let packed = file.entries.map(\.name).filter {
            $0.hasPrefix("model.layers.1.mlp.down_proj.weight")
          }.sorted()
          #expect(!packed.isEmpty)
          codes.append(Data(packed.flatMap { file.bytes(of: $0)!.array }))
        }
        #expect((codes[0] == codes[1]) == (inputs == .source), "\(inputs)")
      }
    }
  }

  /// A rate that ruins the block ends with the block as it was.
  @Test func aLossThatGrowsLeavesTheBlockAsItWas() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/source", config: [:])
      var distill = distill(steps: 20)
      (distill.rate, distill.vectorRate) = (1, 1)
      for (name, recipe) in [("plain", recipe(nil)), ("wild", recipe(distill))] {
        _ = try run(recipe, windows: 4).run(folder + "/source", to: folder + "/\(name)")
      }
      var (plain, wild) = (try files(folder + "/plain"), try files(folder + "/wild"))
      for losses in try losses(folder + "/wild") { #expect(losses.min() == losses[0]) }
      plain["nibble_report.json"] = nil
      wild["nibble_report.json"] = nil
      #expect(plain == wild)
    }
  }

  /// Biases, norms with an offset, norms behind branches, experts, parallel branches.
  @Test(arguments: ["opt", "gemma3", "olmo2", "mixtral", "bloom", "phi3"])
  func everyKindOfBlockIsDistilled(_ family: String) throws {
    let model = FamilyFixture.models(of: [family])[0]
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try model.write(in: source)
      var recipe = Recipe.w8a8
      recipe.steps = [distill(steps: 10), Round()]
      var run = TinyRun(recipe)
      let vocabulary = model.logits.count / model.tokens.count
      run.windows.calibration = (0..<4).map {
        someTokens(12, below: vocabulary, seed: 40 + UInt64($0))
      }
      run.windows.heldOut = [model.tokens]
      let report = try run.run(source, to: output)
      #expect(try #require(report.verdict).kl < 0.1)
      let losses = try losses(output)
      #expect(!losses.isEmpty && losses.allSatisfy { $0.count == 2 })
      // The written model is the one that was measured.
      #expect(losses.contains { $0[1] < $0[0] }, "\(losses)")
    }
  }

  @Test func whatCannotBeDistilledIsRefused() throws {
    func fault(_ steps: [any Step], _ scheme: LinearScheme = Self.scheme) -> String {
      Recipe(name: "x", summary: "", scheme: scheme, steps: steps, maxKL: 1).fault ?? ""
    }
    #expect(fault([Distill(), Round()]) == "")
    #expect(fault([Distill(), GPTQ()]).contains("round without a search"))
    #expect(fault([Distill(), Round(search: .shrink(steps: 10))]).contains("without a search"))
    #expect(fault([Distill(), Distill(), Round()]).contains("once"))
    #expect(fault([Distill(), Round()], Recipe.w8a8Static.scheme).contains("static"))
    try inTemporaryFolder { folder in
      try FamilyFixture.models(of: ["qwen3_5"])[0].write(in: folder + "/source")
      let plan = try run(recipe(distill(steps: 1)), windows: 2).plan(folder + "/source")
      #expect("\(plan.refusals)".contains("gated delta net"), "\(plan.refusals)")
    }
  }

  @Test(arguments: [
    ("{steps: 0}", "steps"), ("{rate: -1}", "rate"), ("{inputs: both}", "source or quantized"),
    ("{speed: 3}", "speed"), ("{tokens: many}", "tokens"),
  ])
  func settingsWithoutMeaningAreRefused(_ settings: String, _ word: String) throws {
    let text = """
      weights: {format: int8}
      activations: {format: int8}
      steps: [{distill: \(settings)}, round]
      max_kl: 1
      """
    try inTemporaryFolder { folder in
      let path = folder + "/recipe.yaml"
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      #expect { try Recipe(path: path) } throws: { "\($0)".contains(word) }
    }
  }
}
