import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@Suite struct GenerationTests {
  @Test func anAnswerThatFillsTheContextEndsThere() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      let outcome = try nibble(
        "run", folder + "/source", "Once", "--raw", "--context", "10", "--max-tokens", "50")
      #expect(outcome.status == 0, "\(outcome)")
      #expect(outcome.output.dropLast() == (try greedy(folder + "/source", "Once", 6)))
      let long = try nibble(
        "run", folder + "/source", "Once upon a time", "--raw", "--context", "10")
      #expect(long.status == 65 && long.errors.contains("10"), "\(long)")
    }
  }

  /// The text that follows `prompt`, by the library alone.
  private func greedy(_ source: String, _ prompt: String, _ count: Int) throws -> String {
    let checkpoint = try Checkpoint(path: source)
    let decoder = try Decoder(checkpoint.decoderShape(), from: checkpoint)
    var session = try Session(decoder, capacity: 256, on: Compute(threads: 1, precision: .f32))
    var logits = try session.append(prompt.utf8.map(Int.init))
    var bytes: [UInt8] = []
    for _ in 0..<count {
      let token = logits.indices.max { logits[$0] < logits[$1] } ?? 0
      bytes.append(UInt8(token))
      logits = try session.append([token])
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test func runPrintsTheTextAndNothingElse() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      let expected = try greedy(source, "Once", 24)
      let outcome = try nibble(
        "run", source, "Once", "--raw", "--max-tokens", "24", "--temperature", "0")
      #expect(outcome.status == 0, "\(outcome)")
      #expect(outcome.output.utf8.elementsEqual((expected + "\n").utf8))
      let piped = try nibble("run", source, "-", "--raw", "--max-tokens", "24", input: "Once")
      #expect(piped.output == outcome.output)
      let json = try nibble("run", source, "Once", "--raw", "--max-tokens", "24", "--json").json()
      #expect(json["text"]?.string == expected && json["end"] == "token limit")
      #expect(json["prompt_tokens"]?.int == 4 && json["tokens"]?.array?.count == 24)
    }
  }

  @Test func aQuantizedModelRuns() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      for (index, recipe) in [["w8a8"], ["w8a16"], ["fp8"], ["w4a16", "--group", "32"]].enumerated()
      {
        let path = output + "\(index)"
        let quantize = try SmallModel.quantize(
          source, path,
          recipe: ["--recipe"] + recipe + ["--max-kl", "10", "--verdict-window", "16"])
        #expect(try quantize.wait().status == 0)
        let outcome = try nibble("run", path, "Once", "--raw", "--max-tokens", "8")
        #expect(outcome.status == 0 && !outcome.output.isEmpty, "\(recipe): \(outcome)")
      }
    }
  }

  @Test func theSameSeedGivesTheSameText() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      func text(_ seed: String, _ threads: String) throws -> String {
        try nibble(
          "run", source, "Once", "--raw", "--max-tokens", "24", "--temperature", "1", "--seed",
          seed, "--threads", threads
        ).output
      }
      #expect(try text("1", "1") == text("1", "2"))
      #expect(try text("1", "1") != text("2", "1"))
    }
  }

  @Test func aModelWithoutATemplateSaysHowToRunIt() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      let outcome = try nibble("run", folder + "/source", "Once")
      #expect(outcome.status == 65 && outcome.errors.contains("--raw"), "\(outcome)")
      #expect(outcome.output.isEmpty)
    }
  }

  @Test func aTemplateTurnsMessagesIntoThePrompt() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      try write(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<a>",
        source + "/chat_template.jinja")
      let expected = try greedy(source, "<system>S<user>Once<a>", 12)
      let outcome = try nibble("run", source, "Once", "--max-tokens", "12", "--system", "S")
      #expect(outcome.output.utf8.elementsEqual((expected + "\n").utf8), "\(outcome)")
      let chat = try nibble(
        "chat", source, "--max-tokens", "12", "--system", "S", "--json",
        input: "Once\n/reset\nOnce\n/quit\nnever\n")
      #expect(chat.status == 0, "\(chat)")
      let answers = chat.output.split(separator: "\n").compactMap {
        try? JSON(parsing: Array($0.utf8))["text"]?.string
      }
      #expect(answers == [expected, expected])
      try write("{{ raise_exception('no') }}", source + "/chat_template.jinja")
      #expect(try nibble("run", source, "Once").status == 65)
    }
  }
}
