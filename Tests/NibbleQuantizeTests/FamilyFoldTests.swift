import Foundation
import NibbleFormats
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleModel
@testable import NibbleQuantize

/// The law of folds, for every family: factors at every site that takes them do not change the
/// logits.
@Suite struct FamilyFoldTests {
  private static let families = FamilyFixture.models(of: [
    "llama", "opt", "qwen2", "qwen3", "gemma2", "gemma3", "internlm", "internlm2", "phi3",
    "gpt_neox",
    "bloom", "smollm3", "olmo2", "olmo3", "granite", "glm", "glm4", "cohere", "cohere2", "stablelm",
    "mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "qwen3_5", "gemma4",
  ]).filter { $0.config["quantization_config"] == nil }

  private let compute = Compute(threads: 1, precision: .f32)

  @Test(arguments: families)
  func factorsAtEverySiteChangeNothing(_ model: FamilyFixture) throws {
    try inTemporaryFolder { folder in
      try model.write(in: folder)
      let checkpoint = try Checkpoint(path: folder)
      let decoder = try Decoder(checkpoint.decoderShape(), from: checkpoint)
      let before = try decoder.logits(of: model.tokens, on: compute)
      let largest = before.reduce(0) { max($0, abs($1)) }
      var random = SplitMix(state: 7)
      // All experts together.
      func kind(_ site: Site) -> Site { site.isOfExpert ? .expertsDown : site }
      for site in [Site.attention, .output, .feedForward, .down, .sharedDown, .expertsDown] {
        var folded = decoder
        var count = 0
        for index in decoder.blocks.indices {
          var block = WorkingBlock(decoder.blocks[index], index, in: checkpoint, on: compute)
          for shape in block.shape.sites where kind(shape.site) == site {
            if case .none = shape.feeder { continue }
            let size = (shape.factorIndex.max() ?? -1) + 1
            let factors = (0..<size).map { _ in Float.random(in: 0.25...4, using: &random) }
            block.fold(factors, into: shape)
            count += 1
          }
          folded.blocks[index] = block.runnable()
        }
        let after = try folded.logits(of: model.tokens, on: compute)
        let change = zip(before, after).reduce(0) { max($0, abs($1.0 - $1.1)) } / largest
        // Rounding errors of float32 at other magnitudes. A missing fold changes a tenth or more.
        #expect(change < 1e-5, "\(site.rawValue) of \(count) blocks")
        #expect(count == 0 || after != before, "\(site.rawValue): nothing was folded")
      }
    }
  }
}
