import Foundation
import NibbleFormats
import NibbleModel
import Testing
import TinyModel

/// Oracle: what transformers 5.23 takes for its own `generate` from the same file.
@Suite struct GenerationConfigTests {
  private func config(_ text: String?) throws -> GenerationConfig {
    try inTemporaryFolder { folder in
      try TinyModel().write(to: URL(fileURLWithPath: folder))
      if let text {
        try Data(text.utf8).write(
          to: URL(fileURLWithPath: folder + "/generation_config.json"))
      }
      return try Checkpoint(path: folder).generationConfig()
    }
  }

  @Test func withoutAFileTheMostLikelyTokenIsTaken() throws {
    for text in [nil, "{}", #"{"temperature":0.6,"do_sample":false}"#] {
      #expect(try config(text).sampling == Sampling())
    }
  }

  @Test func theSettingsOfAPublishedChatModelAreTaken() throws {
    let config = try config(
      #"""
      {"bos_token_id":151643,"pad_token_id":151643,"do_sample":true,
       "eos_token_id":[151645,151643],"repetition_penalty":1.05,"temperature":0.7,"top_p":0.8,
       "top_k":20,"transformers_version":"4.37.0"}
      """#)
    #expect(config.endOfText == [151645, 151643] && config.passedOver.isEmpty)
    let sampling = config.sampling
    #expect(sampling.temperature == 0.7 && sampling.topK == 20 && sampling.topP == 0.8)
    #expect(sampling.repetitionPenalty == 1.05 && sampling.minP == 0)
  }

  @Test func drawingWithoutMoreIsAsInTransformers() throws {
    let sampling = try config(#"{"do_sample":true,"eos_token_id":7}"#).sampling
    #expect(sampling.temperature == 1 && sampling.topK == 50 && sampling.topP == 1)
    #expect(try config(#"{"do_sample":true,"top_k":0}"#).sampling.topK == nil)
  }

  @Test func thePenaltyHoldsWithoutDrawing() throws {
    let sampling = try config(#"{"repetition_penalty":1.3,"top_k":20}"#).sampling
    #expect(sampling.temperature == 0 && sampling.repetitionPenalty == 1.3)
  }

  @Test func whatIsNotAppliedIsNamed() throws {
    let config = try config(
      #"{"num_beams":4,"no_repeat_ngram_size":0,"typical_p":1.0,"suppress_tokens":[1]}"#)
    #expect(config.passedOver == ["num_beams", "suppress_tokens"])
  }

  @Test(arguments: [
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "do_sample", "eos_token_id",
  ])
  func nonsenseIsAnErrorThatNamesIt(_ field: String) throws {
    for value in [#""x""#, "-1", "[0.5]", "1e300", "{}"] {
      if field == "eos_token_id", value == "-1" { continue }
      let error = try #require(throws: ModelError.self) {
        try config("{\"\(field)\":\(value)}")
      }
      #expect("\(error)".contains(field) && "\(error)".contains("generation_config.json"))
    }
  }
}
