import Foundation
import NibbleFormats
import Testing
import TinyModel

@Suite struct ExitStatusTests {
  @Test func wrongUsageIs64() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      for arguments in [
        ["bogus"], ["quantize", source], ["quantize", source, "--recipe", "w8a8"],
        ["quantize", source, "--recipe", "w3a3", "-o", folder + "/out"],
        ["quantize", source, "--recipe", "w8a8", "--group", "32", "-o", folder + "/out"],
        ["quantize", source, "--recipe", "w4a16", "-o", folder + "/out"],
        ["quantize", source, "--recipe", "w8a8", "--memory", "1MB", "-o", folder + "/out"],
        ["quantize", source, "--recipe", "w8a8", "--memory", "much", "-o", folder + "/out"],
        ["plan", source, "--recipe", "w4a16"],
        ["plan", source, "--recipe", "w8a8", "--format", "x"],
        ["plan", source, "--recipe", "w8a8", "--format", "awq"],
        ["plan", source, "--recipe", "fp8", "--format", "fp8"],
        ["plan", source, "--recipe", "w8a8", "--per", "block"],
        ["plan", source, "--recipe", "w4a16", "--group", "32", "--per", "tensor"],
        ["plan", source, "--recipe", "w8a8", "--samples", "4"],
        ["plan", source, "--recipe", "w8a8", "--calibrate", "builtin", "--sample-length", "1"],
        ["plan", source, "--recipe", "w8a8", "--calibrate", "a.json", "--calibrate-field", "a,"],
        ["quantize", source, "--recipe", "w8a8", "--max-kl", "-1", "-o", folder + "/out"],
        ["eval", source], ["eval", source, "--text", "builtin", "--window", "1"],
        ["eval", source, "--text", "builtin", "--max-kl", "1"],
        ["run", source], ["run", source, "a", "--top-k", "0"],
        ["run", source, "a", "--top-p", "2"],
        ["run", source, "a", "--threads", "0"], ["run", source, "a", "--precision", "f8"],
      ] {
        let outcome = try Call(arguments).wait()
        #expect(outcome.status == 64, "\(arguments): \(outcome)")
        #expect(outcome.errors.count > 20, "\(arguments): \(outcome.errors)")
      }
      #expect(!exists(folder + "/out") && !exists(folder + "/out.nibble-partial"))
    }
  }

  @Test func aGroupThatDoesNotFitIsAnsweredWithOneThatDoes() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      let outcome = try nibble(
        "quantize", folder + "/source", "--recipe", "w4a16", "-o", folder + "/out")
      #expect(outcome.status == 64 && outcome.errors.contains("--group 32"), "\(outcome)")
    }
  }

  @Test func aPathThatIsNotThereIs66AndNamed() throws {
    try inTemporaryFolder { folder in
      let (source, none) = (folder + "/source", folder + "/none")
      try SmallModel.write(source)
      for arguments in [
        ["inspect", none], ["plan", none, "--recipe", "w8a8"], ["eval", none, "--text", "builtin"],
        ["quantize", none, "--recipe", "w8a8", "-o", folder + "/out"], ["run", none, "a"],
        ["chat", none], ["tokenize", none, "--text", "builtin"], ["inspect", none + ".gguf"],
        ["logits", none, "--ids", none, "-o", none], ["logits", source, "--ids", none, "-o", none],
        ["eval", source, "--text", none], ["eval", source, "--text", "builtin", "--against", none],
        ["quantize", source, "--recipe", "w8a8", "-o", folder + "/out", "--verdict-text", none],
        ["quantize", source, "--recipe", "w8a8", "-o", folder + "/out", "--calibrate", none],
        [
          "quantize", source, "--recipe", "w8a8", "-o", folder + "/out", "--calibrate",
          none + ".jsonl",
        ],
      ] {
        let outcome = try Call(arguments).wait()
        #expect(outcome.status == 66, "\(arguments): \(outcome)")
        #expect(outcome.errors.contains(none), "\(arguments): \(outcome.errors)")
      }
    }
  }

  @Test func badInputIs65AndNamed() throws {
    try inTemporaryFolder { folder in
      try write(String(repeating: "garbage ", count: 100), folder + "/garbage.gguf")
      try write("GGUF\u{3}\u{0}\u{0}\u{0}", folder + "/short.gguf")
      try write("text", folder + "/letter.txt")
      for name in ["cut", "garbage", "header", "config", "hidden", "empty"] {
        let source = folder + "/" + name
        try SmallModel.write(source, config: name == "hidden" ? ["hidden_size": 63] : [:])
        let weights = URL(fileURLWithPath: source + "/model.safetensors")
        switch name {
        case "cut":
          let bytes = try Data(contentsOf: weights)
          try bytes.dropLast(bytes.count / 2).write(to: weights)
        case "garbage": try Data(repeating: 0x7B, count: 5000).write(to: weights)
        case "header": try Data([255, 255, 255, 255, 255, 255, 255, 127]).write(to: weights)
        case "config": try write("{", source + "/config.json")
        case "empty": try Data().write(to: weights)
        default: break
        }
      }
      for name in [
        "garbage.gguf", "short.gguf", "letter.txt", "cut", "garbage", "header", "config", "empty",
      ] {
        for command in [["inspect"], ["run", "hello"], ["plan", "--recipe", "w8a8"]] {
          let outcome = try Call([command[0], folder + "/" + name] + command.dropFirst()).wait()
          #expect(outcome.status == 65, "\(name) \(command): \(outcome)")
          #expect(outcome.errors.contains(folder + "/" + name), "\(outcome.errors)")
        }
      }
      let outcome = try nibble("plan", folder + "/hidden", "--recipe", "w8a8")
      #expect(outcome.status == 65 && outcome.errors.contains("63"), "\(outcome)")
    }
  }

  @Test func calibrationTextThatCannotBeUsedIs65AndNamed() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      for (name, text, options, said) in [
        ("a.jsonl", "\"a\"\n{", [], "line 2"), ("b.jsonl", "{\"x\": 1}", [], "--calibrate-field"),
        ("c.json", "7", [], "a number"), ("d.parquet", "PAR1", [], "parquet"),
        ("e.txt", "short", ["--samples", "2"], "5 tokens"),
        ("f.txt", "text", ["--calibrate-field", "a"], "leave it out"),
        ("g.jsonl", #"{"messages": [{"role": "user", "content": "a"}]}"#, [], "chat template"),
      ] as [(String, String, [String], String)] {
        let file = folder + "/" + name
        try write(text, file)
        let arguments = ["quantize", source, "-o", output, "--calibrate", file]
        let outcome = try Call(arguments + SmallModel.short + options).wait()
        #expect(outcome.status == 65, "\(name): \(outcome)")
        #expect(outcome.errors.contains(file) && outcome.errors.contains(said), "\(outcome)")
      }
      #expect(!exists(output) && !exists(output + ".nibble-partial"))
    }
  }

  @Test func aShardThatIsMissingIsNamed() throws {
    try inTemporaryFolder { folder in
      let (source, sharded) = (folder + "/source", folder + "/sharded")
      try SmallModel.write(source)
      let outcome = try SmallModel.quantize(source, sharded, "--shard-size", "30KB").wait()
      #expect(outcome.status == 0, "\(outcome)")
      let shard = try #require(
        try files(sharded).keys.sorted().first { $0.hasPrefix("model-00002-of-") })
      try FileManager.default.removeItem(atPath: sharded + "/" + shard)
      for arguments in [["inspect", sharded], ["run", sharded, "a", "--raw"]] {
        let outcome = try Call(arguments).wait()
        #expect([65, 66].contains(outcome.status), "\(outcome)")
        #expect(outcome.errors.contains(sharded) && outcome.errors.contains(shard), "\(outcome)")
      }
    }
  }

  @Test func theTokenizerOfAnotherModelIsRefused() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      var tokenizer = ByteTokenizer.json
      tokenizer.set(
        "added_tokens",
        [["id": 256, "content": "<extra>", "special": true, "normalized": false]])
      try SmallModel.write(source, tokenizer: tokenizer)
      for arguments in [
        ["run", source, "a", "--raw"], ["eval", source, "--text", "builtin"], ["chat", source],
        ["quantize", source, "-o", folder + "/out"] + SmallModel.short,
      ] {
        let outcome = try Call(arguments).wait()
        #expect(outcome.status == 65, "\(arguments): \(outcome)")
        #expect(outcome.errors.contains("256"), "\(outcome.errors)")
      }
      try write("[1, 2", source + "/tokenizer.json")
      let outcome = try nibble("run", source, "a", "--raw")
      #expect(outcome.status == 65 && outcome.errors.contains("tokenizer.json"), "\(outcome)")
    }
  }

  @Test func whatCannotBeWrittenIs73() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      try write("dear", folder + "/file")
      for output in [source, folder + "/file", folder + "/file/below", "/dev/full"] {
        let outcome = try SmallModel.quantize(source, output).wait()
        #expect(outcome.status == 73, "\(output): \(outcome)")
        #expect(outcome.errors.contains(output), "\(outcome.errors)")
      }
      #expect(try String(contentsOfFile: folder + "/file", encoding: .utf8) == "dear")
    }
  }

  @Test func aBoundThatIsCrossedIs2AndTheModelIsThere() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      let outcome = try nibble(
        "quantize", source, "-o", output, "--recipe", "w8a8", "--max-kl", "0", "--verdict-window",
        "16", "--json")
      #expect(outcome.status == 2, "\(outcome)")
      #expect(outcome.errors.contains("bound"))
      let verdict = try #require(try outcome.json()["verdict"])
      #expect(verdict["within_bound"] == .bool(false) && exists(output + "/model.safetensors"))
      let eval = try nibble(
        "eval", output, "--against", source, "--text", "builtin", "--window", "16", "--windows",
        "2", "--max-kl", "0")
      #expect(eval.status == 2, "\(eval)")
      let within = try nibble(
        "eval", output, "--against", source, "--text", "builtin", "--window", "16", "--windows",
        "2", "--max-kl", "9")
      #expect(within.status == 0, "\(within)")
    }
  }

  @Test func anUnknownFamilyIsQuantizedAndNothingElse() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source, config: ["model_type": "opt-ish"])
      let outcome = try SmallModel.quantize(source, output, "--json").wait()
      // Nothing was measured, which is not what status 0 promises.
      #expect(outcome.status == 2, "\(outcome)")
      #expect(outcome.errors.contains("opt-ish") && outcome.errors.contains("Llama"))
      #expect(outcome.errors.contains("--allow-unmeasured"), "\(outcome.errors)")
      #expect(try outcome.json()["verdict"] == .null && exists(output + "/model.safetensors"))
      let allowed = try SmallModel.quantize(
        source, folder + "/allowed", "--allow-unmeasured"
      ).wait()
      #expect(allowed.status == 0, "\(allowed)")
      for arguments in [["run", source, "a"], ["eval", source, "--text", "builtin"]] {
        let outcome = try Call(arguments).wait()
        #expect(
          outcome.status == 65 && outcome.errors.contains("no family that Nibble runs"),
          "\(outcome)")
      }
    }
  }
}
