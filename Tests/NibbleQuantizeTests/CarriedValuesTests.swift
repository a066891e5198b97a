import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

/// Facts about inputs of single blocks and shared KV caches beyond those that FamilyTests,
/// FamilyFoldTests and FamilyRunTests check for every family.
@Suite struct CarriedValuesTests {
  private let compute = Compute(threads: 1, precision: .f32)
  private static let models = FamilyFixture.models(of: ["gemma4"])

  private func shape(_ name: String, in folder: String) throws -> DecoderShape {
    let model = try #require(Self.models.first { $0.name == name })
    try model.write(in: folder)
    return try Checkpoint(path: folder).decoderShape()
  }

  @Test func blocksThatShareACacheHaveNoneOfTheirOwn() throws {
    try inTemporaryFolder { folder in
      let shape = try shape("inputs per block, shared caches", in: folder)
      #expect(shape.blocks.map(\.attention?.sharesCacheOf) == [nil, nil, nil, nil, 2, 3])
      #expect(shape.blocks.map(\.attention?.inputs.count) == [3, 3, 3, 3, 1, 1])
      // Two keys and values per token of each head: 8 and 16 channels.
      let own = 2 * 2 * (8 + 16 + 8 + 16)
      #expect(shape.carriedWidth == 6 * 6 + 2 * 2 * (8 + 16))
      var capacity = CacheLimit.bytes(0)
      let decoder = try Decoder(shape, from: Checkpoint(path: folder))
      for tokens in [64, 640] {
        // Rotary tables of 4 and 8 pairs.
        capacity = .bytes(tokens * (4 * own + 2 * 4 * (4 + 8)))
        #expect(capacity.tokens(decoder, keeping: .f32) == tokens)
      }
    }
  }

  @Test func projectionsThatNobodyReadsAreCopied() throws {
    try inTemporaryFolder { folder in
      _ = try shape("published wrapper", in: folder)
      let plan = try TinyRun(.w8a8).plan(folder)
      let path = "model.language_model.layers.3.self_attn"
      #expect(
        plan.layers.map(\.path).filter { $0.hasPrefix(path) } == [
          "\(path).o_proj", "\(path).q_proj",
        ])
      let copies = Set(plan.units.flatMap(\.copies).map(\.name))
      for name in ["\(path).k_proj.weight", "\(path).v_proj.weight", "\(path).k_norm.weight"] {
        #expect(copies.contains(name), "\(name)")
      }
      let kept = plan.keptFloat.filter(\.isLinear).map(\.path)
      #expect(kept.contains("model.language_model.per_layer_model_projection"))
      #expect(kept.contains("model.vision_tower.patch_embedder.input_proj"))
    }
  }

  @Test func theRouterBesideAFeedForwardUnitTakesNoFactors() throws {
    try inTemporaryFolder { folder in
      let block = try shape("experts", in: folder).blocks[0]
      #expect(
        block.sites.prefix(5).map(\.site)
          == [.attention, .output, .feedForward, .down, .mixture])
      let site = try #require(block.site(.mixture))
      #expect(site.floats.isEmpty)
      #expect(block.linears.contains { $0.staysFloat && $0.role == .router })
      guard case .none = site.feeder else {
        Issue.record("stacked experts take factors")
        return
      }
      guard case .none = try #require(block.site(.output)).feeder else {
        Issue.record("values that are normed take factors")
        return
      }
    }
  }

  /// Steps that compensate errors follow the carried values from block to block.
  @Test(arguments: models, ["w8a8-smooth", "w8a8-best"])
  func calibratedRecipesStayNearTheSource(_ model: FamilyFixture, _ name: String) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try model.write(in: source)
      var run = TinyRun(try .preset(name))
      run.windows.calibration = (0..<4).map { someTokens(12, below: 48, seed: 40 + UInt64($0)) }
      run.windows.heldOut = [model.tokens]
      let verdict = try #require(try run.run(source, to: output).verdict)
      #expect(verdict.kl < 0.1, "\(verdict)")
      let written = try LoadedModel(path: output).decoder.logits(of: model.tokens, on: compute)
      let largest = model.logits.reduce(0) { max($0, abs($1)) }
      let change = zip(written, model.logits).reduce(0) { max($0, abs($1.0 - $1.1)) } / largest
      #expect(change > 0 && change < 0.5, "\(change)")
    }
  }

  @Test func configsThatContradictThemselvesAreRefused() throws {
    let model = Self.models[1]
    for (key, value) in [
      ("num_kv_shared_layers", JSON(5)), ("use_bidirectional_attention", "all"),
      ("per_layer_config", ["1": ["head_dim": 16], "3": ["head_dim": 8]]),
      ("per_layer_config", ["1": ["window": 16]]), ("num_experts_per_tok", 2),
    ] as [(String, JSON)] {
      try inTemporaryFolder { folder in
        try model.write(in: folder) { $0.set(key, value) }
        let error = #expect(throws: ModelError.self) {
          try Checkpoint(path: folder).decoderShape()
        }
        #expect(error.map { "\($0)" }?.contains(key) == true, "\(key)")
      }
    }
  }
}
