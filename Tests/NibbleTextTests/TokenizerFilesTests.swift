import Foundation
import NibbleFormats
import NibbleText
import Testing

/// Oracle: what transformers, SentencePiece and tiktoken do with the same files.
@Suite struct TokenizerFilesTests {
  @Test(arguments: TokenizerFilesFixture.names)
  func encodesAsTheirOwnCode(_ name: String) throws {
    let fixture = try TokenizerFilesFixture(name)
    let tokenizer = try fixture.tokenizer()
    for c in fixture.cases {
      let ids = tokenizer.encode(bytes: c.bytes, addSpecialTokens: c.special)
      #expect(ids == c.ids, "\(String(decoding: c.bytes, as: UTF8.self).debugDescription)")
    }
  }

  @Test(arguments: TokenizerFilesFixture.names)
  func decodesAsTheirOwnCode(_ name: String) throws {
    let fixture = try TokenizerFilesFixture(name)
    let tokenizer = try fixture.tokenizer()
    for c in fixture.cases {
      if let text = c.text { expectSame(tokenizer.decode(c.ids), text, "\(c.ids)") }
      if let plain = c.plain {
        expectSame(tokenizer.decode(c.ids, skipSpecialTokens: true), plain, "plain \(c.ids)")
      }
    }
  }
}

/// What stands before a text when nothing but the class says so.
@Suite struct TokenizerBeginningTests {
  @Test func classesOfSentencePieceBeginTextsWithoutBeingAsked() throws {
    let model = try #require(try TokenizerFilesFixture("llama").files["tokenizer.model"])
    for (config, begins) in [
      (#"{"tokenizer_class":"LlamaTokenizer"}"#, true),
      (#"{"tokenizer_class":"LlamaTokenizer","add_bos_token":false}"#, false),
      (#"{"tokenizer_class":"LlamaTokenizer","bos_token":null}"#, false),
      (#"{"tokenizer_class":"InternLM2Tokenizer"}"#, true),
      (#"{"tokenizer_class":"PreTrainedTokenizerFast"}"#, false),
    ] {
      let tokenizer = try Tokenizer(
        sentencePiece: [UInt8](model), settings: TokenizerSettings(config: JSON(parsing: config)))
      #expect(
        tokenizer.encode("", addSpecialTokens: true) == (begins ? [1] : []), "\(config)")
    }
  }

  @Test func anOPTWithoutAConfigBeginsWithItsEnd() throws {
    var files = try TokenizerFilesFixture("opt").files
    files["tokenizer_config.json"] = nil
    try TokenizerFilesFixture.inFolder(files) { folder in
      let tokenizer = try #require(try TokenizerFolder(path: folder, modelType: "opt").tokenizer())
      #expect(tokenizer.encode("", addSpecialTokens: true) == [2])
      #expect(tokenizer.bos == 2 && tokenizer.eos == 2)
    }
  }
}
