import Foundation
import NibbleFormats
import Testing
import TinyModel

@Suite struct QuantizedHeadTests {
  /// A model whose head is its embedding.
  private func tied(_ folder: String) throws -> String {
    var model = TinyModel()
    (model.blocks, model.vocabulary, model.tiesHead) = (2, 256, true)
    try model.write(to: URL(fileURLWithPath: folder + "/source"))
    try write(ByteTokenizer.json.text(), folder + "/source/tokenizer.json")
    return folder + "/source"
  }

  @Test func aTiedHeadIsWrittenWithCodesOfItsOwn() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (try tied(folder), folder + "/out")
      let quantize = try SmallModel.quantize(source, output, "--quantize-head").wait()
      #expect(quantize.status == 0, "\(quantize)")
      let file = try SafetensorsFile(path: output + "/model.safetensors")
      #expect(file.entry("lm_head.weight")?.dtype == .i8)
      #expect(file.entry("lm_head.weight_scale")?.shape == [256, 1])
      #expect(file.entry("model.embed_tokens.weight")?.dtype == .f16)
      let config = try JSON(
        parsing: Array(Data(contentsOf: URL(fileURLWithPath: output + "/config.json"))))
      #expect(config["tie_word_embeddings"] == false)
      #expect(config["quantization_config"]?["ignore"] == [])
      // Rounded as it is loaded, the head of the same layers is the same.
      let plain = folder + "/plain"
      #expect(try SmallModel.quantize(source, plain).wait().status == 0)
      let written = try nibble("run", output, "Once", "--raw", "--max-tokens", "16")
      let loaded = try nibble(
        "run", plain, "Once", "--raw", "--max-tokens", "16", "--quantize-head")
      #expect(written.status == 0 && loaded.status == 0 && written.output == loaded.output)
    }
  }

  @Test func theHeadCountsLessWhenItIsRounded() throws {
    try inTemporaryFolder { folder in
      let source = try tied(folder)
      func bytes(_ more: String...) throws -> Int {
        let options = ["--prompt-tokens", "4", "--decode-tokens", "2", "--rounds", "1", "--json"]
        let outcome = try Call(["bench", source] + options + more).wait()
        return try #require(try outcome.json()["weight_bytes"]?.int, "\(outcome)")
      }
      // Half of float16, and a scale a row.
      #expect(try bytes() - bytes("--quantize-head") == 256 * 64 - 4 * 256)
    }
  }

  @Test func guessingAheadKeepsTheText() throws {
    try inTemporaryFolder { folder in
      let source = try tied(folder)
      let text = "the cat sat on the mat, the cat sat on the mat, the cat"
      let plain = try nibble("run", source, text, "--raw", "--max-tokens", "60", "--json").json()
      let ahead = try nibble(
        "run", source, text, "--raw", "--max-tokens", "60", "--json", "--prompt-lookup", "4"
      ).json()
      #expect(plain["tokens"] == ahead["tokens"] && plain["guessed_tokens"] == nil)
      #expect((ahead["guessed_tokens"]?.int ?? 0) > 0)
      let rounded = try nibble(
        "run", source, text, "--raw", "--quantize-head", "--prompt-lookup", "8")
      #expect(rounded.status == 65 && rounded.errors.contains("Use --prompt-lookup 7"))
      let options = [
        "--raw", "--quantize-head", "--quantize", "w8a8", "--max-tokens", "60", "--json",
      ]
      let one = try Call(["run", source, text] + options).wait().json()
      let seven = try Call(["run", source, text, "--prompt-lookup", "7"] + options).wait().json()
      #expect(one["tokens"] == seven["tokens"] && (seven["guessed_tokens"]?.int ?? 0) > 0)
    }
  }
}
