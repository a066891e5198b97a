import Foundation
import NibbleFormats
import NibbleText
import Testing

/// Laws: a damaged vocabulary file is a typed error or another vocabulary, never a trap, and found at once.
@Suite struct TokenizerFilesHostileTests {
  private static func settings(
    _ className: String?, _ modelType: String? = nil
  ) throws -> TokenizerSettings {
    let config: JSON? = className.map { ["tokenizer_class": .string($0)] }
    return try TokenizerSettings(config: config, modelType: modelType)
  }

  private static func model() throws -> [UInt8] {
    try [UInt8](#require(try TokenizerFilesFixture("llama").files["tokenizer.model"]))
  }

  /// A protobuf number, and a field of bytes.
  private static func varint(_ value: UInt64) -> [UInt8] {
    var (rest, bytes) = (value, [UInt8]())
    while rest >= 0x80 {
      bytes.append(UInt8(rest & 0x7F) | 0x80)
      rest >>= 7
    }
    return bytes + [UInt8(rest)]
  }

  private static func field(_ number: UInt64, _ content: [UInt8]) -> [UInt8] {
    varint(number << 3 | 2) + varint(UInt64(content.count)) + content
  }

  private static func piece(_ text: String, _ type: UInt64 = 1) -> [UInt8] {
    field(1, field(1, Array(text.utf8)) + [0x18] + varint(type))
  }

  /// A model of byte pairs with the piece that stands for unknown text.
  private static let whole =
    piece("<unk>", 2) + piece("a") + piece("b") + piece("ab") + field(2, [0x18, 2])

  private static func refusal(_ bytes: [UInt8], _ className: String? = nil) throws -> String {
    let settings = try settings(className)
    let clock = ContinuousClock()
    let start = clock.now
    let error = try #require(throws: TokenizerError.self) {
      try Tokenizer(sentencePiece: bytes, settings: settings)
    }
    #expect(clock.now - start < .seconds(1))
    return "\(error)"
  }

  @Test func theUndamagedModelWorks() throws {
    let tokenizer = try Tokenizer(sentencePiece: Self.whole, settings: Self.settings(nil))
    #expect(tokenizer.encode("ab") == [0, 3])
    #expect(tokenizer.vocabularySize == 4)
  }

  /// Bytes that are no protobuf.
  private static let damaged: [([UInt8], String)] = [
    ([], "no pieces"), ([0x0A], "cut off"), ([0x00, 0x00], "field 0"), ([0x0B], "wire type 3"),
    ([0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], "are said to follow"),
    ([0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], "are said to follow"),
    ([UInt8](repeating: 0xFF, count: 11), "above 64 bits"), ([0x0E], "wire type 6"),
    ([0x08, 0x01], "type of its own"), ([0x0D, 0, 0, 0, 0], "type of its own"),
  ]

  private static let damagedPieces: [([UInt8], String)] = [
    (field(1, []), "a piece is empty"), (field(1, [0x0A, 0x05, 0x61]), "are said to follow"),
    (field(1, [0x0A, 1, 0xFF]), "not valid UTF-8"), (field(1, [0x10, 1]), "type of its own"),
    (field(1, [0x15, 0, 0, 0xC0, 0x7F]), "not a number"), (field(1, [0x15, 0, 0]), "cut off"),
    (piece("a", 9), "a type that is not known"), (field(1, [0x22, 0]), "field 4"),
    (field(1, [0x18] + varint(1 << 40)), "above 32 bits"), (field(9, []), "field 9"),
    (piece("a"), "0 pieces stand for unknown text"),
    (piece("a", 2) + piece("b", 2), "2 pieces stand for unknown text"),
    (piece("a", 2) + piece("a"), "stands twice"),
  ]

  private static let damagedSettings: [([UInt8], String)] = [
    (whole + field(2, [0x18, 3]), "its model of words"),
    (whole + field(2, [0x18, 9]), "a type that is not known"),
    (whole + field(2, [0xC0, 0x01, 1]), "not behind it"),
    (whole + field(3, [0x28, 0]), "not behind it"), (whole + field(3, [0x3A, 0]), "field 7"),
    (whole + field(5, [0x12, 1, 0]), "denormalizer"),
    (piece(String(repeating: "a", count: 513)) + whole, "at most 512"),
    (unigram + piece(String(repeating: "a", count: 5000)), "at most 4096"),
    (unigram + field(3, field(2, [1, 2, 3])), "a trie"),
  ]

  private static let unigram = piece("<unk>", 2) + field(2, [0x18, 1])

  @Test(arguments: damaged + damagedPieces + damagedSettings)
  func refuses(_ bytes: [UInt8], _ reason: String) throws {
    let message = try Self.refusal(bytes)
    #expect(message.contains(reason), "\(message)")
    #expect(message.contains("tokenizer"), "\(message)")
  }

  @Test func refusesAModelThatIsCutOffAnywhere() throws {
    let model = try Self.model()
    let settings = try Self.settings("LlamaTokenizer")
    for count in stride(from: 1, to: model.count, by: 13) {
      do { _ = try Tokenizer(sentencePiece: Array(model[..<count]), settings: settings) } catch {
        #expect("\(error)".contains("tokenizer"), "\(count): \(error)")
      }
    }
  }

  @Test(arguments: [nil, "LlamaTokenizer", "GemmaTokenizer"])
  func survivesFlippedBytes(_ className: String?) throws {
    let model = try Self.model()
    let settings = try Self.settings(className)
    var state: UInt64 = 1
    func next(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    for _ in 0..<150 {
      var bytes = model
      for _ in 0...next(3) { bytes[next(bytes.count)] = UInt8(next(256)) }
      if let tokenizer = try? Tokenizer(sentencePiece: bytes, settings: settings) {
        let ids = tokenizer.encode("the  model <s> \u{1F600}\u{301}")
        #expect(!tokenizer.decode(ids).isEmpty)
      }
    }
  }

  /// Every cut of every token gives two tokens.
  @Test func vocabulariesOfOneLetterAreRead() throws {
    let tokens = (1...100).map { Self.piece(String(repeating: "a", count: $0)) }.flatMap { $0 }
    let tokenizer = try Tokenizer(
      sentencePiece: Self.piece("<unk>", 2) + tokens + Self.field(2, [0x18, 2]),
      settings: Self.settings("InternLM2Tokenizer"))
    #expect(tokenizer.vocabularySize == 101)
    let text = String(repeating: "a", count: 1000)
    #expect(tokenizer.decode(tokenizer.encode(text), skipSpecialTokens: true) == text)
  }

  @Test(arguments: [
    ("", "it holds no tokens"), ("YQ==", "not a token and its rank"),
    ("YQ== 0 0", "not a token and its rank"), ("Y!== 0", "no token in base64"),
    ("YQ 0", "no token in base64"), (" 0", "no token in base64"), ("YQ== -1", "no rank"),
    ("YQ== 1x", "no rank"), ("YQ== ", "no rank"), ("YQ== 99999999", "no rank"),
    ("YQ== 2097152", "no rank"), ("YQ== 0\nYg== 0", "two tokens have the rank 0"),
    ("YQ== 0\nYQ== 1", "stands twice"), ("YQ== 1", "no token has the rank 0"),
    ("YQ== 0", "byte 0 is no token"), ("\u{FFFD} 0", "no token in base64"),
  ])
  func refusesRanks(_ text: String, _ reason: String) throws {
    let error = try #require(throws: TokenizerError.self) {
      try Tokenizer(
        tiktoken: Array(text.utf8), settings: Self.settings("QWenTokenizer"), file: "qwen.tiktoken")
    }
    #expect("\(error)".contains(reason) && "\(error)".contains("qwen.tiktoken"), "\(error)")
  }

  @Test(arguments: [
    ("a", "line 1 is not two tokens"), ("#version: 0.2\na b c", "line 2 is not two tokens"),
    ("a b\n\nb a", "line 2 is not two tokens"), (" a", "line 1 is not two tokens"),
    ("a x", "\"ax\", which is not in the vocabulary"), ("b a", "\"ba\", which is not"),
  ])
  func refusesMerges(_ text: String, _ reason: String) throws {
    let error = try #require(throws: TokenizerError.self) {
      try Tokenizer(
        vocabulary: ["a": 0, "b": 1, "ab": 2], merges: Array(text.utf8),
        settings: Self.settings("GPT2Tokenizer"))
    }
    #expect("\(error)".contains(reason), "\(error)")
  }

  @Test func refusesMergesThatAreNoText() throws {
    let error = try #require(throws: TokenizerError.self) {
      try Tokenizer(
        vocabulary: ["a": 0], merges: [0x61, 0x20, 0xFF],
        settings: Self.settings("GPT2Tokenizer"))
    }
    #expect("\(error)".contains("line 1 is not valid UTF-8"), "\(error)")
  }

  @Test(arguments: [
    #"[]"#, #"{"a":-1}"#, #"{"a":99999999999}"#, #"{"a":0.5}"#, #"{"a":0,"b":0}"#, #"{"a":"0"}"#,
  ])
  func refusesVocabularies(_ text: String) throws {
    let vocabulary = try JSON(parsing: text)
    let error = try #require(throws: TokenizerError.self) {
      try Tokenizer(
        vocabulary: vocabulary, merges: [], settings: Self.settings("GPT2Tokenizer"))
    }
    #expect("\(error)".contains("vocab") || "\(error)".contains("id"), "\(error)")
  }

  @Test(arguments: ["T5Tokenizer", "GPT2Tokenizer", "QWenTokenizer"])
  func namesAClassThatReadsOtherFiles(_ className: String) throws {
    let message = try Self.refusal(Self.whole, className)
    #expect(message.contains("the class \(className)"), "\(message)")
    #expect(message.contains("save_pretrained"), "\(message)")
  }

  @Test(arguments: [
    (["vocab.json": "{}"], nil, "merges.txt, which belongs to it, is missing"),
    (["merges.txt": ""], nil, "vocab.json, which belongs to it, is missing"),
    (["vocab.json": #"{"a":0}"#, "merges.txt": ""], "unheard_of", "type unheard_of"),
    (["a.tiktoken": "", "b.tiktoken": ""], nil, "a.tiktoken stands beside it"),
    (["a.tiktoken": "YQ== 0"], nil, "without a tokenizer_class"),
    (["tekken.json": "{}"], nil, "tekken.json"), (["spiece.model": ""], nil, "spiece.model"),
    (["tokenizer.model": "", "tokenizer_config.json": "[]"], nil, "tokenizer_config.json"),
    (["tokenizer.model": "", "added_tokens.json": #"{"a":"b"}"#], nil, "added_tokens.json"),
    (["tokenizer.model": ""], nil, "no pieces"),
  ])
  func saysWhichFileOfAFolderCannotBeUsed(
    _ files: [String: String], _ modelType: String?, _ reason: String
  ) throws {
    try TokenizerFilesFixture.inFolder(files.mapValues { Data($0.utf8) }) { folder in
      let error = try #require(throws: TokenizerError.self) {
        try TokenizerFolder(path: folder, modelType: modelType).tokenizer()
      }
      #expect("\(error)".contains(reason), "\(error)")
    }
  }

  @Test func aFolderWithoutAVocabularyHasNoTokenizer() throws {
    try TokenizerFilesFixture.inFolder([:]) { folder in
      let tokenizer = try TokenizerFolder(path: folder, modelType: "llama").tokenizer()
      #expect(tokenizer == nil)
    }
  }
}
