import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import NibbleText
import Testing
import TinyModel

/// Models whose logits or activations are no numbers: an error, and no text.
@Suite struct DamagedModelTests {
  private var compute: Compute { Compute(threads: 1, precision: .f32) }

  private func write(_ folder: String, _ value: Float, in part: String) throws {
    var model = TinyModel()
    model.vocabulary = 256
    try model.write(in: folder, config: [:]) { name, values in
      if name.contains(part) { values[values.count / 2] = value }
    }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity], ["layers.1.mlp.down_proj", "lm_head"])
  func writingEndsWithAnError(_ value: Float, _ part: String) throws {
    try inTemporaryFolder { folder in
      try write(folder, value, in: part)
      let decoder = try LoadedModel(path: folder).decoder
      let tokenizer = try Tokenizer(tokenizerJSON: ByteTokenizer.json, config: nil)
      for lookup in [nil, PromptLookup(tokens: 4)] {
        var generator = try Generator(decoder, tokenizer: tokenizer, capacity: 64, on: compute)
        generator.promptLookup = lookup
        var pieces: [String] = []
        let error = #expect(throws: ModelError.self) {
          try generator.answer(
            to: Array("abcabcabc".utf8).map(Int.init), limit: 8, sampling: Sampling()
          ) {
            pieces.append($0)
            return true
          }
        }
        #expect(error == .nonFiniteLogits(place: "after token 9"))
        #expect(pieces.isEmpty)
      }
    }
  }

  @Test func evaluationEndsWithAnErrorThatNamesTheWindow() throws {
    try inTemporaryFolder { folder in
      try write(folder + "/damaged", .nan, in: "layers.1.mlp.down_proj")
      var model = TinyModel()
      model.vocabulary = 256
      try model.write(in: folder + "/sound", config: [:])
      let (damaged, sound) = (
        try LoadedModel(path: folder + "/damaged").decoder,
        try LoadedModel(path: folder + "/sound").decoder
      )
      var windows = EvaluationWindows()
      windows.length = 8
      for (decoder, base) in [(damaged, nil), (damaged, sound), (sound, damaged)] {
        let error = #expect(throws: ModelError.self) {
          _ = try Evaluation(
            decoder, against: base, tokens: someTokens(24, below: 256), windows: windows,
            on: compute
          ) { _, _, _ in }
        }
        #expect(error == .nonFiniteLogits(place: "in window 1 of 3"))
      }
    }
  }

  @Test(arguments: [("layers.1.mlp.up_proj", Site.down), ("layers.2.mlp.down_proj", nil)])
  func calibrationIsRefusedWhereTheFirstActivationIsNone(_ part: String, _ site: Site?) throws {
    try inTemporaryFolder { folder in
      try write(folder + "/model", .nan, in: part)
      let block = part.hasPrefix("layers.1") ? 1 : 2
      let checkpoint = try Checkpoint(path: folder + "/model")
      #expect(throws: QuantizeError.nonFiniteActivation(block: block, site: site)) {
        try CalibrateRun(
          checkpoint, windows: [someTokens(8, below: 256), someTokens(8, below: 256, seed: 2)],
          on: compute
        ).run(to: folder + "/statistics", progress: { _, _ in })
      }
      #expect(!exists(folder + "/statistics"))
    }
  }
}
