import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

/// Whole runs of every family. The written model matches rounding at load, and calibrated recipes
/// leave a model close to its source.
@Suite struct FamilyRunTests {
  /// One model per family.
  private static let models = [
    "opt", "qwen2", "qwen3", "gemma2", "gemma3", "internlm", "internlm2", "phi3", "gpt_neox",
    "bloom", "smollm3", "olmo2", "olmo3", "granite", "glm", "glm4", "cohere", "cohere2", "stablelm",
    "mixtral", "qwen2_moe", "qwen3_moe", "qwen3_5", "gemma4",
  ].map { FamilyFixture.models(of: [$0])[0] }

  private let compute = Compute(threads: 1, precision: .f32)

  private func run(_ recipe: Recipe, _ model: FamilyFixture) -> TinyRun {
    var run = TinyRun(recipe)
    let vocabulary = model.logits.count / model.tokens.count
    run.windows.calibration = (0..<4).map {
      someTokens(12, below: vocabulary, seed: 40 + UInt64($0))
    }
    run.windows.heldOut = [model.tokens]
    return run
  }

  @Test(arguments: models)
  func whatIsWrittenIsWhatRoundingRuns(_ model: FamilyFixture) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try model.write(in: source)
      try run(.w8a8, model).run(source, to: output)
      let written = try LoadedModel(path: output).decoder
      let rounded = try LoadedModel(path: source, rounding: .w8a8, on: compute).decoder
      let found = try written.logits(of: model.tokens, on: compute)
      #expect(try found == rounded.logits(of: model.tokens, on: compute))
      #expect(found != model.logits)
    }
  }

  /// Steps that scale, shift and compensate errors, on every block shape.
  @Test(arguments: models, ["w8a8-smooth", "w8a8-best", "w8a8-static"])
  func whatLearnsFromTextStaysNearItsSource(_ model: FamilyFixture, _ name: String) throws {
    // No engine takes experts with static int8 activations: ExpertsTests.
    if name == "w8a8-static", model.tensorNames.contains(where: { $0.contains("experts") }) {
      return
    }
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try model.write(in: source)
      let report = try run(try .preset(name), model).run(source, to: output)
      let verdict = try #require(report.verdict)
      // int8 of a random model. A fold into the wrong rows costs several nats.
      #expect(verdict.kl < (name == "w8a8-static" ? 0.5 : 0.1), "\(verdict)")
      let largest = model.logits.reduce(0) { max($0, abs($1)) }
      let written = try LoadedModel(path: output).decoder.logits(of: model.tokens, on: compute)
      let change = zip(written, model.logits).reduce(0) { max($0, abs($1.0 - $1.1)) } / largest
      // Ranges calibrated on 48 tokens clip some values of other tokens.
      #expect(change > 0 && change < (name == "w8a8-static" ? 1 : 0.5), "\(change)")
    }
  }

  /// Weights stored as `[inputs, outputs]`: row-wise rounding would give one scale per input.
  @Test func weightsThatLieInputsFirstAreNotQuantized() throws {
    try inTemporaryFolder { folder in
      try FamilyFixture.models(of: ["gpt2"])[0].write(in: folder)
      let plan = try TinyRun(.w8a8).plan(folder)
      #expect(plan.refusals.count == 1 && "\(plan.refusals)".contains("inputs first"))
      #expect(throws: QuantizeError.self) {
        try LoadedModel(path: folder, rounding: .w8a8, on: compute)
      }
    }
  }
}
