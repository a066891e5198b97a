import NibbleFormats
import NibbleText
import Testing

/// Oracle: the recorded tokenizers, described the way a GGUF file would.
@Suite struct TokenizerGGUFTests {
  @Test(arguments: [("smollm", "smollm"), ("llama_bpe", "llama-bpe")])
  func byteLevelEncodesAsHuggingFace(_ name: String, _ pre: String) throws {
    let fixture = try TokenizerFixture(name)
    try expectCases(fixture, Tokenizer(gguf: Self.gguf(fixture, model: "gpt2", pre: pre)))
  }

  @Test func sentencePieceMergesComeFromScores() throws {
    let fixture = try TokenizerFixture("llama2")
    var gguf = try Self.gguf(fixture, model: "llama", pre: nil)
    gguf.merges = []
    gguf.scores = gguf.tokens.indices.map { -Float($0) }
    gguf.types = gguf.tokens.indices.map { $0 == 0 ? 2 : $0 < 3 ? 3 : $0 < 259 ? 6 : 1 }
    try expectCases(fixture, Tokenizer(gguf: gguf))
    let merges = try Tokenizer.huggingFaceFiles(from: gguf).tokenizer["model"]?["merges"]
    #expect(merges == fixture.file["model"]?["merges"])
  }

  @Test func configNamesWhatTheFileNames() throws {
    var gguf = try Self.gguf(TokenizerFixture("smollm"), model: "gpt2", pre: "smollm")
    (gguf.bos, gguf.eos, gguf.padding) = (0, 1, 1)
    gguf.chatTemplate = "{{ messages }}"
    let files = try Tokenizer.huggingFaceFiles(from: gguf)
    #expect(files.config["bos_token"] == "<|end|>")
    #expect(files.config["pad_token"] == "<pad>")
    #expect(files.config["chat_template"] == "{{ messages }}")
    let tokenizer = try Tokenizer(gguf: gguf)
    #expect(tokenizer.bos == 0)
    #expect(tokenizer.eos == 1)
    #expect(tokenizer.isSpecial(1))
    #expect(tokenizer.encode("a", addSpecialTokens: true) == tokenizer.encode("a"))
    gguf.addBOS = true
    let adding = try Tokenizer(gguf: gguf)
    #expect(adding.encode("a", addSpecialTokens: true) == [0] + tokenizer.encode("a"))
  }

  @Test func refusesWhatDoesNotFit() throws {
    let good = try Self.gguf(TokenizerFixture("smollm"), model: "gpt2", pre: "smollm")
    func expectRefused(_ change: (inout GGUFTokenizer) -> Void) {
      var gguf = good
      change(&gguf)
      #expect(throws: TokenizerError.self) { try Tokenizer(gguf: gguf) }
    }
    expectRefused { $0.model = "bert" }
    expectRefused { $0.model = "llama" }
    expectRefused { $0.pre = "never-heard-of" }
    expectRefused { $0.tokens[5] = [0xFF] }
    expectRefused { $0.tokens[5] = $0.tokens[6] }
    expectRefused { $0.types.removeLast() }
    expectRefused { $0.scores = [1] }
    expectRefused { $0.bos = $0.tokens.count }
    expectRefused { $0.eos = -1 }
    expectRefused { $0.merges[0] = Array("nospace".utf8) }
    expectRefused { $0.merges[0] = [0xFF, 0x20, 0x61] }
    expectRefused { $0.merges[0] = Array("no such".utf8) }
  }

  private func expectCases(_ fixture: TokenizerFixture, _ tokenizer: Tokenizer) throws {
    for c in fixture.cases {
      let ids = tokenizer.encode(bytes: c.bytes, addSpecialTokens: c.special)
      #expect(ids == c.ids, "\(String(decoding: c.bytes, as: UTF8.self).debugDescription)")
      expectSame(tokenizer.decode(c.ids), c.text, "\(c.ids)")
      expectSame(tokenizer.decode(c.ids, skipSpecialTokens: true), c.plain, "plain \(c.ids)")
    }
  }

  private static func gguf(
    _ fixture: TokenizerFixture, model: String, pre: String?
  ) throws -> GGUFTokenizer {
    let vocabulary = try #require(fixture.file["model"]?["vocab"]?.object)
    var tokens = [[UInt8]](repeating: [], count: vocabulary.count)
    for (token, id) in vocabulary { tokens[try #require(id.int)] = Array(token.utf8) }
    let merges = try #require(fixture.file["model"]?["merges"]?.array).map { pair in
      Array("\(pair.array?[0].string ?? "") \(pair.array?[1].string ?? "")".utf8)
    }
    var types = [Int](repeating: 1, count: tokens.count)
    for token in fixture.file["added_tokens"]?.array ?? [] {
      types[try #require(token["id"]?.int)] = 3
    }
    return GGUFTokenizer(
      model: model, pre: pre, tokens: tokens, types: types, merges: merges,
      bos: model == "llama" ? 1 : 0, unknown: model == "llama" ? 0 : nil)
  }
}
