import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import Testing
import TinyModel

@Suite struct PlanTests {
  @Test func askingForTheHeadOfATiedModelIsNotSilentlyIgnored() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      var model = TinyModel()
      model.tiesHead = true
      try model.write(in: source, config: [:])
      var setting = TinyRun()
      setting.recipe.quantizesHead = true
      let plan = try setting.plan(source)
      let head = try #require(plan.layers.first { $0.path == "lm_head" })
      #expect(head.tensor == "model.embed_tokens.weight" && head.scheme == Recipe.w8a8.scheme)
      setting.recipe.exceptions = [Recipe.Exception(pattern: "lm_head", scheme: nil)]
      #expect(throws: QuantizeError.self) { try setting.plan(source) }
    }
  }

  @Test(arguments: Recipes.names, [5 << 30, 25_000])
  func theBytesPlannedAreTheBytesWritten(_ name: String, _ shardSize: Int) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      var setting = TinyRun(try Recipes.named(name))
      setting.shardSize = shardSize
      let plan = try setting.plan(source)
      let report = try setting.run(source, to: output)
      let sizes = try files(output).filter { $0.key.hasSuffix(".safetensors") }.mapValues(\.count)
      #expect(sizes.count == plan.shards.count)
      for (index, shard) in plan.shards.enumerated() {
        #expect(sizes[plan.fileName(shard: index)] == shard.fileSize)
      }
      #expect(sizes.values.reduce(0, +) == plan.outputBytes && report.bytes == plan.outputBytes)
      let written = try SafetensorsCheckpoint(folder: output)
      for layer in plan.layers {
        let bytes = written.names.filter { $0.hasPrefix(layer.path + ".") }.reduce(0) {
          $0 + (written.entry($1)?.byteCount ?? 0)
        }
        #expect(bytes == layer.outputBytes, "\(layer.path)")
      }
      #expect(plan.sourceBytes == TinyModel().tensors.reduce(0) { $0 + 2 * $1.shape.reduce(1, *) })
    }
  }

  @Test(arguments: [
    // hidden, intermediate, group, the largest of 128, 64, 32, 16 that divides both
    (64, 96, 64, 32), (128, 256, 96, 64), (64, 80, 32, 16), (64, 72, 16, 0),
  ])
  func aGroupThatDoesNotFitIsRefusedWithTheLargestThatDoes(
    _ hidden: Int, _ intermediate: Int, _ group: Int, _ fitting: Int
  ) throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      (model.hidden, model.intermediate) = (hidden, intermediate)
      try model.write(in: folder + "/source", config: [:])
      var setting = TinyRun(try .preset("w4a16", group: group))
      let plan = try setting.plan(folder + "/source")
      let refusal = try #require(plan.refusals.first)
      guard
        case .groupDoesNotDivide(let layer, _, let size, let inputs, let found) = refusal
      else { throw QuantizeError.refused([refusal]) }
      #expect(size == group && found == (fitting == 0 ? nil : fitting))
      #expect(!inputs.isMultiple(of: group) && plan.layers.contains { $0.path == layer })
      if fitting > 0 { #expect("\(refusal)".contains("--group \(fitting)")) }
      #expect(throws: QuantizeError.refused(plan.refusals)) {
        try setting.run(folder + "/source", to: folder + "/out")
      }
      #expect(!exists(folder + "/out") && !exists(folder + "/out.nibble-partial"))
      guard fitting > 0 else { return }
      setting.recipe = try .preset("w4a16", group: fitting)
      #expect(try setting.plan(folder + "/source").refusals.isEmpty)
      try setting.run(folder + "/source", to: folder + "/out")
    }
  }

  @Test func aBudgetBelowTheNeedIsRefusedUpFront() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      var setting = TinyRun()
      let needed = try setting.plan(source).memory.total
      for (budget, fits) in [(needed, true), (needed - 1, false), (1, false)] {
        setting.budget = budget
        let refusals = try setting.plan(source).refusals
        #expect(refusals == (fits ? [] : [.memory(needed: needed, budget: budget)]))
        if !fits {
          #expect(throws: QuantizeError.refused(refusals)) {
            try setting.run(source, to: folder + "/out")
          }
        }
      }
    }
  }

  @Test func theMemoryPlannedDoesNotGrowWithTheBlocks() throws {
    try inTemporaryFolder { folder in
      var totals: Set<Int> = []
      for blocks in [1, 2, 9] {
        var model = TinyModel()
        model.blocks = blocks
        try model.write(in: folder + "/\(blocks)", config: [:])
        totals.insert(try TinyRun().plan(folder + "/\(blocks)").memory.total)
      }
      #expect(totals.count == 1)
    }
  }

  @Test func whatStaysFloatIsListedWithAReason() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(
        in: source,
        adding: [
          (
            .init(name: "model.layers.0.extra.weight", dtype: .f16, shape: [2, 64]),
            [Float](
              repeating: 0.5, count: 128)
          )
        ])
      // A tensor that the family does not know is kept only where the user says that it changes nothing.
      #expect(throws: QuantizeError.self) { try TinyRun().plan(source) }
      let setting = TinyRun(ignoring: ["extra.weight"])
      let plan = try setting.plan(source)
      let kept = Dictionary(uniqueKeysWithValues: plan.keptFloat.map { ($0.path, $0.reason) })
      #expect(
        Set(kept.keys) == ["model.embed_tokens", "lm_head", "model.layers.0.extra"])
      #expect(kept.values.allSatisfy { !$0.isEmpty })
      try setting.run(source, to: folder + "/out")
      // An engine would take it for a linear layer, so it must be told.
      let ignore = try Checkpoint.json(folder + "/out/config.json")["quantization_config"]?[
        "ignore"]
      #expect(ignore?.array?.compactMap(\.string) == ["lm_head", "model.layers.0.extra"])
    }
  }

  @Test func recipesRefuseOptionsThatTheyDoNotHave() throws {
    for (name, group, symmetric) in [
      ("w8a8", 64, nil), ("fp8", 64, nil), ("w8a8", nil, false), ("fp8", nil, true),
      ("w4a16", 1, nil), ("w4a16", 0, nil), ("w4a16", -4, nil), ("W8A8", nil, nil),
    ] as [(String, Int?, Bool?)] {
      #expect(throws: QuantizeError.self, "\(name) \(String(describing: group))") {
        try Recipe.preset(name, group: group, symmetric: symmetric)
      }
    }
    do { _ = try Recipe.preset("w3") } catch {
      for recipe in Recipe.presets { #expect("\(error)".contains(recipe.name)) }
    }
  }
}
