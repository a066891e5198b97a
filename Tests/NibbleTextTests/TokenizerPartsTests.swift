import NibbleFormats
import Testing

@testable import NibbleText

/// Laws that tie two ways of doing the same thing.
@Suite struct TokenizerPartsTests {
  @Test func heapAndScanMergeAlike() throws {
    var merges = IntegerTable()
    var rank: UInt64 = 0
    for left in UInt64(0)..<24 {
      for right in UInt64(0)..<24 where (left &* 7 &+ right &* 5) % 3 != 0 {
        merges.set(rank << 32 | ((left &* 5 &+ right &* 11) % 24), for: left << 32 | right)
        rank = (rank &* 31 &+ 17) % 1009
      }
    }
    var model = BytePairs(
      alphabet: .bytes([], words: ByteTable()), vocabulary: Vocabulary(), fusesUnknown: false,
      ignoresMerges: false)
    model.merges = merges
    var state: UInt64 = 1
    for length in [2, 3, 31, 33, 48, 127] {
      for _ in 0..<50 {
        let symbols = (0..<length).map { _ in
          state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          return Int32(state >> 40) % 24
        }
        var scratch = BytePairs.Scratch(symbols: symbols)
        model.mergeByScanning(&scratch)
        var heap = symbols
        model.mergeByHeap(&heap)
        #expect(heap == scratch.symbols)
      }
    }
  }

  @Test(arguments: [
    (WordScanner.gpt2, WordScanner.gpt2Pattern),
    (.gpt4(digits: 3), WordScanner.gpt4Pattern(#"\p{N}{1,3}"#)),
    (.gpt4(digits: 1), WordScanner.gpt4Pattern(#"\p{N}"#)),
  ])
  func scannersFindWhatTheirPatternsFind(_ scanner: WordScanner, _ pattern: String) throws {
    #expect(WordScanner(pattern: pattern) == scanner)
    var search = PatternSearch(try PatternProgram(pattern))
    for c in try TokenizerFixture("gpt2").cases {
      let text = Array(String(decoding: c.bytes, as: UTF8.self).utf8)
      var words: [Range<Int>] = []
      scanner.split(text.span, 0..<text.count, into: &words)
      let found = search.matches(in: text.span, 0..<text.count)
      #expect(found == words)
    }
  }

  @Test func tablesKeepWhatTheyAreGiven() {
    var bytes = ByteTable()
    var integers = IntegerTable()
    var isNew = true
    for value in 0..<5000 {
      let inserted = bytes.insert(Array("\(value)".utf8).span, value)
      let previous = integers.set(UInt64(value), for: UInt64(value) << 32)
      isNew = isNew && inserted && previous == nil
    }
    let again = bytes.insert(Array("7".utf8).span, 1)
    let keepsBytes = (0..<5000).allSatisfy { (value: Int) in
      bytes.value(for: Array("\(value)".utf8).span) == value
    }
    let keepsIntegers = (0..<5000).allSatisfy {
      integers.value(for: UInt64($0) << 32) == UInt64($0)
    }
    let missing = bytes.value(for: Array("5000".utf8).span)
    #expect(isNew && !again && keepsBytes && keepsIntegers)
    #expect(missing == nil)
    #expect(integers.value(for: 1) == nil)
  }

  @Test func piecesNeverSplitACharacter() throws {
    let text = "é日本語😀👩‍👩‍👧‍👦 naïve"
    for name in ["gpt2", "llama2", "qwen2"] {
      let tokenizer = try TokenizerFixture(name).tokenizer()
      var stream = Tokenizer.StreamDecoder(tokenizer, skipSpecialTokens: true)
      let pieces = tokenizer.encode(text).map { stream.append($0) }
      #expect(stream.flush().isEmpty)
      #expect(!pieces.joined().contains("\u{FFFD}"))
      expectSame(pieces.joined(), tokenizer.decode(tokenizer.encode(text)), name)
    }
  }

  @Test func flushGivesWhatNeverBecameACharacter() throws {
    let tokenizer = try TokenizerFixture("gpt2").tokenizer()
    let ids = tokenizer.encode("日").dropLast()
    var stream = Tokenizer.StreamDecoder(tokenizer, skipSpecialTokens: true)
    #expect(ids.map { stream.append($0) }.joined().isEmpty)
    #expect(stream.flush() == "\u{FFFD}")
    #expect(stream.flush().isEmpty)
  }

  @Test func canonicallyEqualTokensStayApart() throws {
    let json = try JSON(
      parsing: """
        {"model":{"type":"WordLevel","vocab":{"\u{E9}":0,"e\u{301}":1,"?":2},"unk_token":"?"}}
        """)
    let tokenizer = try Tokenizer(tokenizerJSON: json, config: nil)
    #expect(tokenizer.encode("\u{E9}") == [0])
    #expect(tokenizer.encode("e\u{301}") == [1])
    #expect(tokenizer.id(of: "e\u{301}") == 1)
  }
}
