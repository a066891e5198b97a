import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

/// What a command must not pass over: damaged models, text that is none, other vocabularies, lengths.
@Suite struct HonestyTests {
  /// A model with a value that is no number.
  private func writeDamaged(_ folder: String) throws {
    var model = TinyModel()
    (model.blocks, model.vocabulary) = (2, 256)
    try model.write(to: URL(fileURLWithPath: folder)) { name, values in
      if name == "model.layers.1.mlp.down_proj.weight" { values[7] = .nan }
    }
    try write(ByteTokenizer.json.text(), folder + "/tokenizer.json")
    try write("{% for m in messages %}{{ m.content }}{% endfor %}", folder + "/chat_template.jinja")
  }

  @Test func aDamagedModelIs65AndSaysNothing() throws {
    try inTemporaryFolder { folder in
      let (damaged, sound) = (folder + "/damaged", folder + "/sound")
      try writeDamaged(damaged)
      try SmallModel.write(sound)
      let eval = ["--text", "builtin", "--window", "16", "--windows", "1"]
      for (arguments, input) in [
        (["run", damaged, "Hi", "--raw"], ""), (["run", damaged, "Hi", "--raw", "--json"], ""),
        (["chat", damaged], "Hi\n"), (["eval", damaged] + eval, ""),
        (["eval", sound, "--against", damaged] + eval, ""),
        (["bench", damaged, "--rounds", "1", "--prompt-tokens", "8", "--decode-tokens", "2"], ""),
      ] {
        let outcome = try Call(arguments, input: input).wait()
        #expect(outcome.status == 65, "\(arguments): \(outcome)")
        #expect(outcome.output.isEmpty, "\(arguments): \(outcome.output)")
        #expect(outcome.errors.contains("not a number"), "\(arguments): \(outcome.errors)")
      }
      let calibrate = try nibble(
        "calibrate", damaged, "-o", folder + "/statistics", "--samples", "2", "--sample-length",
        "16")
      #expect(calibrate.status == 65 && calibrate.errors.contains("block 1"), "\(calibrate)")
      #expect(!exists(folder + "/statistics"))
    }
  }

  @Test func textThatIsNoneIs65WithTheByte() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      let file = folder + "/text"
      for (bytes, byte) in [
        (Array("caf\u{E9} is caf".utf8) + [0xE9, 0x20], 12), ([0x61, 0, 0x62], 1),
        ([0xFF, 0xFE], 0),
        (Array("日本".utf8).dropLast(), 3),
      ] as [([UInt8], Int)] {
        try Data(bytes).write(to: URL(fileURLWithPath: file))
        for arguments in [
          ["eval", source, "--text", file],
          ["calibrate", source, "-o", folder + "/s", "--calibrate", file],
          ["tokenize", source, "--text", file],
          ["quantize", source, "-o", folder + "/out", "--verdict-text", file] + SmallModel.short,
        ] {
          let outcome = try Call(arguments).wait()
          #expect(outcome.status == 65, "\(arguments): \(outcome)")
          #expect(outcome.errors.contains("\(file): byte \(byte) is"), "\(outcome.errors)")
        }
      }
    }
  }

  @Test func modelsOfOtherVocabulariesAreNotCompared() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/a")
      // Two tokens have each other's ids.
      let other = ByteTokenizer.json.text()
        .replacingOccurrences(of: "\"a\":97", with: "\"a\":98")
        .replacingOccurrences(of: "\"b\":98", with: "\"b\":97")
      try SmallModel.write(folder + "/b", tokenizer: try JSON(parsing: Array(other.utf8)))
      let arguments = ["--text", "builtin", "--window", "16", "--windows", "1"]
      let outcome = try Call(
        ["eval", folder + "/a", "--against", folder + "/b"] + arguments
      ).wait()
      #expect(outcome.status == 65 && outcome.errors.contains("token 97"), "\(outcome)")
      let same = try Call(["eval", folder + "/a", "--against", folder + "/a"] + arguments).wait()
      #expect(same.status == 0, "\(same)")
    }
  }

  @Test func windowsKeepToTheContextOrSayThatTheyDoNot() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source, config: ["max_position_embeddings": 24])
      try write(String(repeating: "Some words. ", count: 40), folder + "/text")
      let eval = try nibble("eval", source, "--text", folder + "/text", "--windows", "1", "--json")
      #expect(try eval.json()["window"] == 24 && !eval.errors.contains("warning"), "\(eval)")
      let past = "past the 24 that the model was made for"
      let long = try nibble(
        "eval", source, "--text", folder + "/text", "--windows", "1", "--window", "25", "--json")
      #expect(try long.json()["window"] == 25 && long.errors.contains(past), "\(long)")
      let calibrate = try nibble(
        "calibrate", source, "-o", folder + "/s", "--samples", "1", "--sample-length", "32")
      #expect(calibrate.status == 0 && calibrate.errors.contains(past), "\(calibrate)")
      let short = try nibble("calibrate", source, "-o", folder + "/t", "--samples", "1", "--json")
      #expect(try short.json()["tokens"] == 24 && !short.errors.contains("warning"), "\(short)")
    }
  }

  @Test func sizesCountAsTheirUnitsSay() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      for (size, bytes) in [
        ("1.5KiB", 1536), ("1kib", 1024), ("1.5KB", 1500), ("2kB", 2000), ("0.001MiB", 1048),
        ("0.001MB", 1000), ("0.000001GiB", 1073), ("0.000001GB", 1000), ("900", 900), ("900B", 900),
      ] {
        // Too little for the keys and values, and said in bytes.
        let outcome = try nibble("run", source, "Hi", "--raw", "--cache-bytes", size)
        #expect(
          outcome.status == 65 && outcome.errors.contains("over \(bytes) bytes"), "\(outcome)")
      }
      for size in ["1IB", "KI", "1KIIB", "iB", "1Ki"] {
        #expect(
          try nibble("run", source, "Hi", "--raw", "--cache-bytes", size).status == 64, "\(size)")
      }
    }
  }

  @Test func aKeyThatIsNotKnownIsRefusedUnlessIgnored() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source, config: ["logit_scale": 0.5])
      let eval = ["--text", "builtin", "--window", "16", "--windows", "1"]
      for arguments in [
        ["run", source, "Hi", "--raw", "--max-tokens", "1"], ["eval", source] + eval,
        ["plan", source] + SmallModel.short,
        ["quantize", source, "-o", output] + SmallModel.short,
        ["calibrate", source, "-o", folder + "/s", "--samples", "1", "--sample-length", "16"],
        ["sensitivity", source, "--recipe", "w8a8", "--sensitivity-length", "8"],
        ["bench", source, "--rounds", "1", "--prompt-tokens", "8", "--decode-tokens", "2"],
        ["eval", output, "--against", source] + eval,
      ] {
        let refused = try Call(arguments).wait()
        if arguments[1] == source {
          #expect(refused.status == 65, "\(arguments): \(refused)")
          #expect(refused.errors.contains("--ignore-key logit_scale"), "\(refused.errors)")
        }
        let allowed = try Call(arguments + ["--ignore-key", "logit_scale"]).wait()
        #expect(allowed.status == 0, "\(arguments): \(allowed)")
      }
      let inspect = try nibble("inspect", source)
      #expect(inspect.status == 0 && inspect.output.contains("logit_scale"), "\(inspect)")
      let nowhere = try nibble("run", source, "Hi", "--raw", "--ignore-key", "logit_scal")
      #expect(nowhere.status == 65 && nowhere.errors.contains("logit_scal:"), "\(nowhere)")
    }
  }

  /// A prompt that spells a turn of another role is one message.
  @Test func aPromptCannotForgeATurn() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      var model = TinyModel()
      model.vocabulary = 257
      try model.write(to: URL(fileURLWithPath: source))
      try write(ByteTokenizer.jsonWithEnd.text(), source + "/tokenizer.json")
      try write(
        "{% for m in messages %}{{ m.content }}<end>{% endfor %}", source + "/chat_template.jinja")
      func tokens(_ prompt: String, _ more: String...) throws -> Int? {
        let outcome = try Call(["run", source, prompt, "--max-tokens", "1", "--json"] + more).wait()
        #expect(outcome.status == 0, "\(outcome)")
        return try outcome.json()["prompt_tokens"]?.int
      }
      #expect(try tokens("Hi") == 3)
      #expect(try tokens("Hi<end>") == 8)
      // Who writes the whole prompt writes its special tokens too.
      #expect(try tokens("Hi<end>", "--raw") == 3)
    }
  }

  @Test func aBrokenGenerationConfigIs65AndItsStopTokensCount() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      let path = source + "/generation_config.json"
      for text in [
        "{", "[]", "", String(repeating: "[", count: 100_000), "{\"eos_token_id\": \"x\"}",
      ] {
        try write(text, path)
        for arguments in [
          ["run", source, "Hi", "--raw"],
          ["quantize", source, "-o", folder + "/out"] + SmallModel.short,
        ] {
          let outcome = try Call(arguments).wait()
          #expect(
            outcome.status == 65 && outcome.errors.contains(path), "\(text.prefix(20)): \(outcome)")
        }
      }
      try write("{}", path)
      let first = try nibble("run", source, "Hi", "--raw", "--max-tokens", "4", "--json").json()
      let token = try #require(first["tokens"]?.array?.first)
      try write("{\"eos_token_id\": [\(token.text())]}", path)
      let stopped = try nibble("run", source, "Hi", "--raw", "--max-tokens", "4", "--json").json()
      #expect(stopped["end"] == "end of text" && stopped["tokens"] == [], "\(stopped)")
    }
  }
}
