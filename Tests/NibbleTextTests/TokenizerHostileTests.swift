import NibbleFormats
import NibbleText
import Testing

/// Laws: nothing traps, nothing is skipped in silence, nothing takes quadratic time.
@Suite struct TokenizerHostileTests {
  /// A byte-pair tokenizer of a few letters, as text to be damaged.
  static func file(_ model: String = "", _ rest: String = "") -> String {
    """
    {"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]\(model)}\(rest)}
    """
  }

  /// Forty doublings make a terabyte of one letter.
  @Test func aNormalizerThatGrowsWithoutBoundIsRefused() throws {
    func tokenizer(_ steps: [String]) throws -> Tokenizer {
      let normalizer = #"{"type":"Sequence","normalizers":[\#(steps.joined(separator: ","))]}"#
      return try Tokenizer(
        tokenizerJSON: JSON(parsing: Self.file("", ",\"normalizer\":" + normalizer)), config: nil)
    }
    func replace(_ pattern: String, _ content: String) -> String {
      #"{"type":"Replace","pattern":\#(pattern),"content":"\#(content)"}"#
    }
    let double = replace(#"{"String":"i"}"#, "ii")
    for steps in [
      Array(repeating: double, count: 40),
      [replace(#"{"Regex":""}"#, String(repeating: "a", count: 2000))],
      [#"{"type":"Prepend","prepend":"\#(String(repeating: "a", count: 3000))"}"#],
      [replace(#"{"String":"a"}"#, String(repeating: "b", count: 3000))],
      Array(repeating: replace(#"{"String":"a"}"#, "a"), count: 257),
    ] {
      let error = try #require(throws: TokenizerError.self) { try tokenizer(steps) }
      #expect("\(error)".contains("normalizer"), "\(error)")
    }
    // The steps of published tokenizers, each at its worst.
    let tokenizer = try tokenizer([
      #"{"type":"NFKD"}"#, #"{"type":"StripAccents"}"#, #"{"type":"Lowercase"}"#,
      replace(#"{"Regex":" {2,}"}"#, " "), replace(#"{"String":" "}"#, "\u{2581}"),
    ])
    #expect(tokenizer.encode("ABBA") == [2, 1, 0])
  }

  @Test func theUndamagedFileWorks() throws {
    let tokenizer = try Tokenizer(tokenizerJSON: JSON(parsing: Self.file()), config: nil)
    #expect(tokenizer.encode("abba") == [2, 1, 0])
    #expect(tokenizer.vocabularySize == 3)
    #expect(tokenizer.decode([2, -1, 3, .max, .min, 0]) == "ab a")
    #expect(tokenizer.token(3) == nil)
    #expect(tokenizer.token(-1) == nil)
    #expect(tokenizer.id(of: "c") == nil)
  }

  @Test(arguments: [
    #"{}"#, #"[]"#, #"null"#, #"{"model":{}}"#, #"{"model":{"type":"BPE"}}"#,
    #"{"model":{"type":"WordPiece","vocab":{}}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":0.5},"merges":[]}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a"]}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a a"]}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":0},"merges":[7]}}"#,
    #"{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"b"}}"#,
    #"{"model":{"type":"Unigram","vocab":[],"unk_id":0}}"#,
    #"{"model":{"type":"Unigram","vocab":[["a",0]],"unk_id":1}}"#,
    #"{"model":{"type":"Unigram","vocab":[["a",0]],"unk_id":-1}}"#,
    #"{"model":{"type":"Unigram","vocab":[["a"]],"unk_id":0}}"#,
    #"{"model":{"type":"Unigram","vocab":[["a",0],["a",0]],"unk_id":0}}"#,
    #"{"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"b"}}"#,
    file("", #","normalizer":{"type":"Nmt"}"#),
    file("", #","normalizer":{"type":"Precompiled","precompiled_charsmap":"/////w=="}"#),
    file("", #","normalizer":{"type":"Precompiled","precompiled_charsmap":"!"}"#),
    file("", #","normalizer":{"type":"Replace","pattern":{"String":""},"content":""}"#),
    file("", #","normalizer":{"type":"Replace","pattern":{},"content":""}"#),
    file("", #","pre_tokenizer":{"type":"UnicodeScripts"}"#),
    file("", #","pre_tokenizer":{"type":"Metaspace","replacement":"ab"}"#),
    file("", #","pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Odd"}"#),
    file("", #","post_processor":{"type":"Odd"}"#),
    file("", #","post_processor":{"type":"TemplateProcessing","single":[]}"#),
    file(
      "",
      #","post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"x"}}],"special_tokens":{"x":{"ids":[9]}}}"#
    ),
    file("", #","decoder":{"type":"CTC"}"#),
    file("", #","added_tokens":[{"id":1,"content":"x"}]"#),
    file("", #","added_tokens":[{"id":-1,"content":"x"}]"#),
    file("", #","added_tokens":[{"id":99999999999,"content":"x"}]"#),
    file("", #","added_tokens":[{"id":3,"content":"x"},{"id":3,"content":"y"}]"#),
  ])
  func refuses(_ text: String) throws {
    let json = try JSON(parsing: text)
    #expect(throws: TokenizerError.self) { try Tokenizer(tokenizerJSON: json, config: nil) }
  }

  @Test(arguments: [
    "(", ")", "[", "[a", "a**", "a++", "*a", "a{2,1}", "a{9999}", "(?=ab)", "(?=a*)", "(?>a)",
    "(?<n>a)", "\\1", "\\p{Han}", "\\p", "\\p{L", "\\", "[b-a]", "[[:alpha:]]", "[a&&b]", "\\x{}",
    "((((((((((a{1000}){1000}){1000}){1000}){1000}){1000}){1000}){1000}){1000}){1000})",
    String(repeating: "(", count: 100_000), String(repeating: "[", count: 100_000), "a{",
  ])
  func refusesThePattern(_ pattern: String) throws {
    let split: JSON = [
      "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated",
    ]
    var json = try #require(try JSON(parsing: Self.file()).object)
    json["pre_tokenizer"] = split
    #expect(throws: TokenizerError.self) {
      try Tokenizer(tokenizerJSON: .object(json), config: nil)
    }
  }

  @Test(arguments: [
    "(a*)*b", "(a|a)*b", "(?:){1000}", "(a?){60}a{60}", "|", "^", "(?:a|ab)(?:c|bcd)*",
  ])
  func searchesInBoundedTime(_ pattern: String) throws {
    var json = try #require(try JSON(parsing: Self.file()).object)
    json["pre_tokenizer"] = [
      "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated",
    ]
    let tokenizer = try Tokenizer(tokenizerJSON: .object(json), config: nil)
    #expect(
      tokenizer.decode(tokenizer.encode(String(repeating: "a", count: 50))).utf8.contains(0x61))
  }

  @Test func nestedSequencesAreBounded() throws {
    var step: JSON = ["type": "NFC"]
    for _ in 0..<100 { step = ["type": "Sequence", "normalizers": [step]] }
    var json = try #require(try JSON(parsing: Self.file()).object)
    json["normalizer"] = step
    #expect(throws: TokenizerError.self) {
      try Tokenizer(tokenizerJSON: .object(json), config: nil)
    }
  }

  @Test(
    .timeLimit(.minutes(2)), arguments: ["smollm", "llama_bpe", "qwen2", "llama2", "unigram_bytes"])
  func longTextsTakeLinearTime(_ name: String) throws {
    let tokenizer = try TokenizerFixture(name).tokenizer()
    for unit in ["a", " ", "\n", "7", "é", "th", "<|end|>", "\u{301}"] {
      let text = String(repeating: unit, count: 30_000 / unit.utf8.count)
      let ids = tokenizer.encode(text)
      #expect(!ids.isEmpty)
      let back = tokenizer.decode(ids)
      #expect(name == "unigram_bytes" || back.utf8.elementsEqual(text.utf8))
    }
  }
}
