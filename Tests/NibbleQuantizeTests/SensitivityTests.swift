import NibbleEngines
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct SensitivityTests {
  private func group(_ block: Int, _ site: Site, kl: Double, weights: Int) -> Sensitivity.Group {
    Sensitivity.Group(
      block: block, site: site, paths: ["\(block).\(site)"], weights: weights, kl: kl,
      signalToNoise: 20)
  }

  private func measure(_ folder: String, _ recipe: Recipe) throws -> Sensitivity {
    let checkpoint = try Checkpoint(path: folder)
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: CompressedTensors(), windows: WindowSizes())
    return try SensitivityRun(
      checkpoint, plan, windows: [someTokens(17, below: 128), someTokens(9, below: 128, seed: 8)],
      on: Compute(threads: 2, precision: .f32)
    ).run(progress: { _, _ in })
  }

  @Test func groupsAreSortedAndTheFewestWeightsStayFloat() {
    let all = [
      group(0, .attention, kl: 0.1, weights: 10), group(0, .output, kl: 0.3, weights: 100),
      group(1, .attention, kl: 0.2, weights: 10), group(1, .down, kl: 0, weights: 80),
    ]
    let found = Sensitivity(all, tokens: 5)
    #expect(found.groups.map(\.kl) == [0.3, 0.2, 0.1, 0])
    #expect(abs(found.estimate - 0.6) < 1e-12)
    #expect(found.kept(share: 0).isEmpty)
    // A tenth of 200 weights: the two small groups, the better one first.
    #expect(found.kept(share: 0.1) == [all[2], all[0]])
    #expect(found.kept(share: 1) == [all[2], all[0], all[1]])
    #expect(found.kept(maxKL: 0.7).isEmpty)
    #expect(found.kept(maxKL: 0.45) == [all[2]])
    #expect(found.share(of: [all[2]]) == 0.05)
  }

  @Test func aRuinedLayerCostsMostAndStaysFloat() throws {
    try inTemporaryFolder { folder in
      // One value of a channel so large that the others round to zero.
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:]) { name, values in
        guard name == "model.layers.1.mlp.down_proj.weight" else { return }
        for row in 0..<64 { values[row * 96 + row] = 60 }
      }
      let found = try measure(source, .w8a16)
      #expect(found.groups.count == 12 && found.tokens == 24)
      #expect(found.groups[0].paths == ["model.layers.1.mlp.down_proj"])
      #expect(found.groups.allSatisfy { $0.kl >= 0 && ($0.signalToNoise ?? 99) > 0 })
      #expect(
        found.groups.first { $0.site == .attention }?.paths.map { $0.suffix(6) }
          == ["q_proj", "k_proj", "v_proj"])
      var run = TinyRun(Recipe.w8a16.keeping(found.groups[0].paths))
      let kept = try #require(try run.run(source, to: folder + "/kept").verdict).kl
      run.recipe = .w8a16
      let whole = try #require(try run.run(source, to: folder + "/whole").verdict).kl
      #expect(kept < 0.5 * whole, "\(kept), \(whole)")
    }
  }

  @Test func anInterruptAtAnyMomentEndsTheMeasurement() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder, config: [:])
      let checkpoint = try Checkpoint(path: folder)
      let plan = try Plan(
        checkpoint, recipe: .w8a8, exporter: CompressedTensors(), windows: WindowSizes())
      let windows = [someTokens(17, below: 128), someTokens(9, below: 128, seed: 8)]
      let run = SensitivityRun(
        checkpoint, plan, windows: windows, on: Compute(threads: 2, precision: .f32))
      var moment = 0
      while true {
        var asked = 0
        let found = try? run.run(
          progress: { _, _ in },
          shouldStop: {
            asked += 1
            return asked > moment
          })
        if let found {
          #expect(found.groups.count == 12)
          break
        }
        #expect(asked == moment + 1)
        moment += 1
      }
      // Each block alone, and each group of layers with the blocks after it.
      #expect(moment == 3 + 4 * (3 + 2 + 1) + 3)
    }
  }

  /// The effect of a group is the divergence of a model in which nothing else is rounded.
  @Test func theEffectIsTheDivergenceOfARunThatRoundsNothingElse() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      let recipe = try Recipe.preset("w4a16", group: 32)
      let found = try measure(source, recipe)
      for group in [found.groups[0], found.groups[7]] {
        var run = TinyRun(recipe.keeping(found.groups.filter { $0 != group }.flatMap(\.paths)))
        run.windows.heldOut = [someTokens(17, below: 128), someTokens(9, below: 128, seed: 8)]
        let output = folder + "/\(group.block)-\(group.site)"
        let kl = try #require(try run.run(source, to: output).verdict).kl
        #expect(abs(kl - group.kl) <= 1e-9 + 1e-3 * kl, "\(kl), \(group.kl)")
      }
    }
  }
}
