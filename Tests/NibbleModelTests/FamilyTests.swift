import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

/// Every family compared with transformers in float32.
@Suite struct FamilyTests {
  private static let families = [
    "llama", "opt", "qwen2", "qwen3", "gemma2", "gemma3", "internlm", "internlm2", "phi3", "gpt2",
    "gpt_neox", "bloom", "smollm3", "olmo2", "olmo3", "granite", "glm", "glm4", "cohere", "cohere2",
    "stablelm", "mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss",
    "qwen3_5", "gemma4",
  ]

  /// The largest difference, relative to the largest logit.
  private func difference(_ ours: [Float], _ theirs: [Float]) -> Float {
    let largest = theirs.reduce(0) { max($0, abs($1)) }
    return zip(ours, theirs).reduce(0) { max($0, abs($1.0 - $1.1)) } / largest
  }

  private func inTemporaryFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("family-" + UUID().uuidString).path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  /// MXFP4 codes are read by NibbleEngines. Its tests compare them with the same logits.
  private static let float = FamilyFixture.models(of: families).filter {
    $0.config["quantization_config"] == nil
  }

  @Test(arguments: float)
  func logitsAreThoseOfTransformers(_ model: FamilyFixture) throws {
    try inTemporaryFolder { folder in
      try model.write(in: folder)
      let checkpoint = try Checkpoint(path: folder)
      let decoder = try Decoder(checkpoint.decoderShape(), from: checkpoint)
      let compute = Compute(threads: 2, precision: .f32)
      let count = model.tokens.count
      var session = try Session(decoder, capacity: count, on: compute)
      let states = try session.states(after: model.tokens)
      var logits: [Float] = []
      session.withLogits(states, 0..<count) { logits = $0 }
      #expect(logits.count == model.logits.count)
      // Sums in another order, over 2 to 6 blocks. A wrong rule gives at least 2e-4.
      #expect(difference(logits, model.logits) < 2e-5, "prefill")
      // One token at a time, through the KV cache.
      session.truncate(to: 0)
      var steps: [Float] = []
      for token in model.tokens { steps += try session.append([token]) }
      #expect(difference(steps, logits) < 2e-5, "token by token")
    }
  }
}
