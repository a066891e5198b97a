import Foundation
import NibbleFormats
import Testing
import TinyModel

private func nibble(_ arguments: [String]) throws -> Outcome { try Call(arguments).wait() }

/// What stands before a text, and what a publisher sets for answers.
@Suite struct BeginningTests {
  /// A byte tokenizer that puts the byte 1 before a text, as Gemma puts `<bos>`.
  private static let beginning: JSON = {
    var json = ByteTokenizer.json
    json.set(
      "post_processor",
      [
        "type": "TemplateProcessing",
        "single": [["SpecialToken": ["id": "B", "type_id": 0]], ["Sequence": ["id": "A"]]],
        "special_tokens": ["B": ["id": "B", "ids": [1], "tokens": ["B"]]],
      ])
    return json
  }()

  private static let text = String(repeating: "The quick brown fox jumps. ", count: 20)

  @Test func evalPutsItBeforeEachWindowAsTheTokenizerDoes() throws {
    try inTemporaryFolder { folder in
      let (source, text) = (folder + "/source", folder + "/text")
      try SmallModel.write(source, tokenizer: Self.beginning)
      try write(Self.text, text)
      func eval(_ more: String...) throws -> JSON {
        try nibble(["eval", source, "--text", text, "--window", "32", "--json"] + more).json()
      }
      let (auto, off) = (try eval(), try eval("--bos", "off"))
      #expect(auto["definition"]?.string?.contains("with BOS before each window") == true)
      #expect(off["definition"]?.string?.contains("no beginning-of-text token added") == true)
      #expect(auto["perplexity"] != off["perplexity"])
      // 540 tokens: the same are scored.
      #expect(auto["windows"]?.int == 16 && off["windows"]?.int == 16)
      #expect(auto["scored_tokens"]?.int == 16 * 31 && off["scored_tokens"]?.int == 16 * 31)
      #expect(try eval("--bos", "on")["perplexity"] == auto["perplexity"])
    }
  }

  @Test func aTokenizerWithoutOneIsMeasuredWithoutAndSaysSo() throws {
    try inTemporaryFolder { folder in
      let (source, text) = (folder + "/source", folder + "/text")
      try SmallModel.write(source)
      try write(Self.text, text)
      let arguments = ["eval", source, "--text", text, "--window", "32"]
      let outcome = try nibble(arguments)
      #expect(outcome.output.contains("no beginning-of-text token added"), "\(outcome)")
      let asked = try nibble(arguments + ["--bos", "on"])
      #expect(asked.status == 65 && asked.errors.contains("bos_token"), "\(asked)")
    }
  }

  @Test func quantizeAndCalibrateSayThatTheirWindowsBeginWithIt() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source, tokenizer: Self.beginning)
      let short = ["--samples", "2", "--sample-length", "16"]
      let calibrate = try nibble(["calibrate", source, "-o", folder + "/s.safetensors"] + short)
      #expect(calibrate.status == 0, "\(calibrate)")
      #expect(calibrate.errors.contains("32 tokens"), "\(calibrate)")
      #expect(calibrate.errors.contains("with BOS before each window"), "\(calibrate)")
      let quantize = ["quantize", source, "-o", folder + "/out"] + SmallModel.short
      let outcome = try nibble(quantize)
      #expect(
        outcome.output.contains("62 held-out tokens, with BOS before each window"), "\(outcome)")
      let off = try nibble(
        ["quantize", source, "-o", folder + "/off", "--bos", "off"] + SmallModel.short)
      #expect(off.output.contains("62 held-out tokens, against the source"), "\(off)")
    }
  }

  @Test func aRawPromptBeginsAsItIsAskedTo() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source, tokenizer: Self.beginning)
      func tokens(_ more: String...) throws -> Int? {
        try nibble(["run", source, "Hi", "--max-tokens", "1", "--json", "--raw"] + more)
          .json()["prompt_tokens"]?.int
      }
      #expect(try tokens() == 3)
      #expect(try tokens("--bos", "off") == 2)
      #expect(try nibble("run", source, "Hi", "--bos", "off").status == 64)
    }
  }

  @Test func aFolderWithoutATokenizerFileRunsOnItsVocabulary() throws {
    try inTemporaryFolder { folder in
      let (source, plain) = (folder + "/source", folder + "/plain")
      try SmallModel.write(plain)
      try SmallModel.write(source, tokenizer: nil)
      let vocabulary = try #require(ByteTokenizer.json["model"]?["vocab"])
      try write(vocabulary.text(), source + "/vocab.json")
      try write("#version: 0.2\n", source + "/merges.txt")
      try write(
        #"{"tokenizer_class":"GPT2Tokenizer","bos_token":"A","eos_token":null,"unk_token":null}"#,
        source + "/tokenizer_config.json")
      let arguments = ["Once", "--raw", "--max-tokens", "8"]
      let outcome = try nibble(["run", source] + arguments)
      #expect(outcome.status == 0, "\(outcome)")
      #expect(outcome.output == (try nibble(["run", plain] + arguments).output))
      try write("{}", source + "/tokenizer_config.json")
      let refused = try nibble(["run", source] + arguments)
      #expect(refused.status == 65 && refused.errors.contains("save_pretrained"), "\(refused)")
    }
  }

  @Test func thePublishersSettingsHoldWhereNothingElseIsAskedFor() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      func text(_ more: String...) throws -> Outcome {
        try nibble(["run", source, "Once", "--raw", "--max-tokens", "24"] + more)
      }
      let greedy = try text()
      let drawn = try text("--temperature", "0.9", "--top-k", "40", "--repetition-penalty", "1.1")
      try write(
        #"{"do_sample":true,"temperature":0.9,"top_k":40,"repetition_penalty":1.1,"num_beams":2}"#,
        source + "/generation_config.json")
      let outcome = try text()
      #expect(outcome.output == drawn.output && outcome.output != greedy.output)
      #expect(
        outcome.errors.contains("temperature 0.9, top-k 40, repetition penalty 1.1"), "\(outcome)")
      #expect(outcome.errors.contains("num_beams"), "\(outcome)")
      #expect(
        try text("--temperature", "0", "--repetition-penalty", "1").output == greedy.output)
    }
  }
}
