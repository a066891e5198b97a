import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import NibbleText
import Testing
import TinyModel

@testable import NibbleQuantize

/// Facts about recurrent blocks beyond those that FamilyTests, FamilyFoldTests and FamilyRunTests
/// check for every family.
@Suite struct MixerTests {
  private let compute = Compute(threads: 1, precision: .f32)
  private let models = FamilyFixture.models(of: ["qwen3_5"])

  private func decoder(_ model: FamilyFixture, in folder: String) throws -> Decoder {
    try model.write(in: folder)
    let checkpoint = try Checkpoint(path: folder)
    return try Decoder(checkpoint.decoderShape(), from: checkpoint)
  }

  @Test func aStateThatCannotGoBackStartsAnew() throws {
    try inTemporaryFolder { folder in
      let model = models[0]
      var session = try Session(decoder(model, in: folder), capacity: 20, on: compute)
      let first = try session.append(model.tokens)
      session.truncate(to: model.tokens.count)
      #expect(session.count == model.tokens.count, "nothing was removed")
      session.truncate(to: 7)
      #expect(session.count == 0)
      #expect(try session.append(model.tokens) == first)
    }
  }

  /// A second prompt that shares its beginning with the first is read whole.
  @Test func aConversationIsReadAgainWhereItChanges() throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(models[0], in: folder)
      let tokenizer = try Tokenizer(tokenizerJSON: ByteTokenizer.json, config: nil)
      func answer(to prompts: [[Int]]) throws -> (tokens: [Int], read: Int) {
        var generator = try Generator(
          decoder, tokenizer: tokenizer, capacity: 60, on: compute)
        var tokens: [Int] = []
        for prompt in prompts {
          tokens = try generator.answer(to: prompt, limit: 8, sampling: Sampling()) { _ in true }
            .tokens
        }
        return (tokens, generator.speed.readTokens)
      }
      let (first, second) = ([3, 1, 4, 1, 5, 9, 2, 6], [3, 1, 4, 1, 5, 8, 9, 7])
      let alone = try answer(to: [second])
      let after = try answer(to: [first, second])
      #expect(after.tokens == alone.tokens && after.read == second.count)
      // A prompt that continues what was read needs only its end.
      let continued = first + (try answer(to: [first]).tokens) + [7]
      #expect(try answer(to: [first, continued]).read == 2)
    }
  }

  @Test func promptLookupIsRefused() throws {
    try inTemporaryFolder { folder in
      var generator = try Generator(
        decoder(models[0], in: folder),
        tokenizer: Tokenizer(tokenizerJSON: ByteTokenizer.json, config: nil), capacity: 60,
        on: compute)
      generator.promptLookup = PromptLookup(tokens: 4)
      let error = #expect(throws: ModelError.self) {
        try generator.answer(to: [1, 2, 3], limit: 4, sampling: Sampling()) { _ in true }
      }
      #expect(error.map { "\($0)" }?.contains("cannot go back") == true)
    }
  }

  /// The linears that decide what the state keeps stay float; towers and the drafting block are
  /// copied.
  @Test func whatStaysFloatIsListed() throws {
    try inTemporaryFolder { folder in
      let model = try #require(models.first { $0.name == "published wrapper" })
      try model.write(in: folder)
      let plan = try TinyRun(.w8a8).plan(folder)
      let mixer = "model.language_model.layers.0.linear_attn"
      #expect(
        plan.layers.map(\.path).filter { $0.hasPrefix(mixer) }.sorted()
          == ["in_proj_qkv", "in_proj_z", "out_proj"].map { "\(mixer).\($0)" })
      let kept = plan.keptFloat.filter(\.isLinear).map(\.path)
      for path in ["\(mixer).in_proj_a", "\(mixer).in_proj_b", "mtp.fc"] {
        #expect(kept.contains(path), "\(path)")
      }
      let copies = Set(plan.units.flatMap(\.copies).map(\.name))
      for name in ["conv1d.weight", "A_log", "dt_bias", "norm.weight"] {
        #expect(copies.contains("\(mixer).\(name)"), "\(name)")
      }
      #expect(copies.contains("model.visual.pos_embed.weight"))
    }
  }

  /// Stacked experts stay float beside a shared expert that is quantized.
  @Test func publishedExpertsStayAsTheyAreStored() throws {
    try inTemporaryFolder { folder in
      let model = try #require(models.first { $0.name == "published wrapper with experts" })
      try model.write(in: folder)
      let plan = try TinyRun(.w8a8).plan(folder)
      let block = "model.language_model.layers.1.mlp"
      #expect(
        plan.layers.map(\.path).filter { $0.hasPrefix(block) }.sorted()
          == ["down_proj", "gate_proj", "up_proj"].map { "\(block).shared_expert.\($0)" })
    }
  }

  /// GPTQ visits the sites of a mixer in order, and its state reads the rounded projections.
  @Test func errorCompensationRunsThroughTheState() throws {
    try inTemporaryFolder { folder in
      // 8-bit codes of the experts' 14 inputs fill no whole words.
      for model in models where !model.name.contains("experts") {
        let (source, output) = ("\(folder)/\(model.name)", "\(folder)/\(model.name) out")
        try model.write(in: source)
        var recipe = try Recipe.preset("w4a16-gptq", group: 4)
        recipe.scheme.weights.granularity = .channel
        recipe.scheme.weights.format = .int(bits: 8, symmetric: true)
        var run = TinyRun(recipe)
        run.windows.calibration = (0..<4).map { someTokens(12, below: 48, seed: 40 + UInt64($0)) }
        run.windows.heldOut = [model.tokens]
        let verdict = try #require(try run.run(source, to: output).verdict)
        #expect(verdict.kl < 0.05, "\(model): \(verdict)")
      }
    }
  }
}
