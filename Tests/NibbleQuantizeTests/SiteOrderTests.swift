import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

/// Visiting a block site by site, as compensating steps do, is running it.
@Suite struct SiteOrderTests {
  private static let models = FamilyFixture.models(of: [
    "opt", "gemma3", "phi3", "bloom", "cohere", "glm4", "mixtral", "qwen2_moe", "gpt_oss",
    "qwen3_5", "gemma4",
  ]).filter { $0.config["quantization_config"] == nil }

  @Test(arguments: models)
  func sitesInOrderGiveTheStatesOfTheBlock(_ model: FamilyFixture) throws {
    try inTemporaryFolder { folder in
      let compute = Compute(threads: 1, precision: .f32)
      try model.write(in: folder)
      let checkpoint = try Checkpoint(path: folder)
      let decoder = try Decoder(checkpoint.decoderShape(), from: checkpoint)
      var streams = try StateStreams(
        calibration: [model.tokens], heldOut: [], needs: [.quantized, .aligned],
        config: decoder.shape, ends: decoder.ends, in: folder, on: compute)
      for (index, block) in decoder.blocks.enumerated() {
        var working = WorkingBlock(block, index, in: checkpoint, on: compute)
        _ = streams.roundInOrder(&working, from: block, aligning: Alignment()) { _, _, _ in }
      }
      var session = try Session(decoder, capacity: model.tokens.count, on: compute)
      let expected = try session.states(after: model.tokens)
      let largest = expected.reduce(0) { max($0, abs($1)) }
      for found in [streams.quantized[0], streams.source[0]] {
        let change =
          zip(found, expected).reduce(0) { max($0, abs($1.0 - $1.1)) } / largest
        // Up to eight tokens are added in another order than more.
        #expect(found.count >= expected.count && change < 1e-5, "\(change)")
      }
    }
  }
}
