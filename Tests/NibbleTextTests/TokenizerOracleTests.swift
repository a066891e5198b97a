import NibbleFormats
import NibbleText
import Testing

/// Oracle: Hugging Face tokenizers, recorded by `Fixtures/tokenizer/make.py`.
@Suite struct TokenizerOracleTests {
  @Test(arguments: TokenizerFixture.names)
  func encodesAsHuggingFace(_ name: String) throws {
    let fixture = try TokenizerFixture(name)
    let tokenizer = try fixture.tokenizer()
    for c in fixture.cases {
      let ids = tokenizer.encode(bytes: c.bytes, addSpecialTokens: c.special)
      #expect(ids == c.ids, "\(String(decoding: c.bytes, as: UTF8.self).debugDescription)")
    }
  }

  @Test(arguments: TokenizerFixture.names)
  func decodesAsHuggingFace(_ name: String) throws {
    let fixture = try TokenizerFixture(name)
    let tokenizer = try fixture.tokenizer()
    for c in fixture.cases {
      expectSame(tokenizer.decode(c.ids), c.text, "\(c.ids)")
      expectSame(tokenizer.decode(c.ids, skipSpecialTokens: true), c.plain, "plain \(c.ids)")
    }
  }

  @Test(arguments: TokenizerFixture.names)
  func streamsWhatItDecodes(_ name: String) throws {
    let fixture = try TokenizerFixture(name)
    let tokenizer = try fixture.tokenizer()
    for c in fixture.cases {
      for skip in [false, true] {
        var stream = Tokenizer.StreamDecoder(tokenizer, skipSpecialTokens: skip)
        var text = c.ids.map { stream.append($0) }.joined()
        text += stream.flush()
        expectSame(text, skip ? c.plain : c.text, "\(c.ids)")
      }
    }
  }
}
