import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleText
import Testing
import TinyModel

@Suite struct CalibrationSamplingTests {
  private let plain: Tokenizer
  /// Its end-of-text token is 256.
  private let ending: Tokenizer

  init() throws {
    plain = try Tokenizer(tokenizerJSON: ByteTokenizer.json, config: nil)
    ending = try Tokenizer(
      tokenizerJSON: ByteTokenizer.jsonWithEnd, config: ["eos_token": "<end>"])
  }

  private func sampling(
    _ windows: Int, _ length: Int, seed: UInt64 = 0, allowsFewer: Bool = false
  ) -> CalibrationSampling {
    var sampling = CalibrationSampling()
    sampling.windows = windows
    sampling.length = length
    sampling.seed = seed
    sampling.allowsFewer = allowsFewer
    return sampling
  }

  private func documents(_ texts: [String]) throws -> CalibrationText {
    try inTemporaryFolder { folder in
      let path = folder + "/a.json"
      try Data(JSON.array(texts.map { .string($0) }).text().utf8).write(
        to: URL(fileURLWithPath: path))
      return try CalibrationText(records: path, template: nil, tokenizer: plain)
    }
  }

  @Test func oneTextIsSpreadEvenly() throws {
    let text = CalibrationText(String(repeating: "0123456789", count: 10), path: "t")
    let cut = try sampling(3, 7).cut(text, with: ending)
    // 14 windows: 0, 14 / 3 and 28 / 3, whole.
    #expect(
      cut.windows == [0, 28, 63].map { start in (start..<start + 7).map { 48 + $0 % 10 } })
    #expect(cut.audit.tokens == 21 && cut.audit.windows == 3 && cut.audit.documents == 1)
  }

  @Test func aBeginningIsPartOfEachWindow() throws {
    let text = CalibrationText(String(repeating: "0123456789", count: 10), path: "t")
    let without = try sampling(3, 7).cut(text, with: ending)
    let with = try sampling(3, 8).cut(text, with: ending, beginning: [256])
    #expect(with.windows == without.windows.map { [256] + $0 })
    #expect(with.audit.tokens == 24)
  }

  @Test func documentsAreJoinedByTheEndOfText() throws {
    let text = try documents(["ab", "c", "defg"])
    let cut = try sampling(1, 9).cut(text, with: ending)
    #expect(cut.windows == [[97, 98, 256, 99, 256, 100, 101, 102, 103]])
    #expect(cut.audit.documents == 3)
    let withoutEnd = try sampling(1, 11).cut(text, with: plain)
    #expect(withoutEnd.windows == [[97, 98, 10, 10, 99, 10, 10, 100, 101, 102, 103]])
    // The second window of four tokens stands in the last document alone.
    var two = sampling(2, 4)
    #expect(try two.cut(text, with: ending).audit.documents == 3)
    two.windows = 1
    #expect(try two.cut(text, with: ending).audit.documents == 2)
  }

  /// Orders from a SplitMix64 and Fisher-Yates shuffle written in Python.
  @Test(
    arguments: [
      (1, [4, 3, 0, 1, 2]), (2, [2, 5, 3, 0, 1]), (1 << 63, [5, 0, 2, 4, 3]),
    ] as [(UInt64, [Int])])
  func seedsDrawTheSameWindowsEverywhere(_ seed: UInt64, _ order: [Int]) throws {
    let text = try documents((0..<6).map { String(repeating: "\($0)", count: 4) })
    let cut = try sampling(5, 5, seed: seed).cut(text, with: ending)
    #expect(cut.windows.map { $0[0] - 48 } == order)
    #expect(cut.windows.allSatisfy { $0[4] == 256 && Set($0.prefix(4)).count == 1 })
    let fewer = try sampling(2, 5, seed: seed).cut(text, with: ending)
    #expect(fewer.windows == Array(cut.windows.prefix(2)))
  }

  @Test func tooLittleTextIsAnErrorWithItsNumbers() throws {
    let text = CalibrationText(String(repeating: "x", count: 20), path: "t")
    #expect(
      throws: CalibrationTextError.tooFewTokens(path: "t", tokens: 20, windows: 3, length: 8)
    ) { try sampling(3, 8).cut(text, with: ending) }
    #expect(
      throws: CalibrationTextError.tooFewTokens(path: "t", tokens: 20, windows: 1, length: 21)
    ) { try sampling(1, 21, seed: 4).cut(text, with: ending) }
    let description =
      "\(CalibrationTextError.tooFewTokens(path: "t", tokens: 20, windows: 3, length: 8))"
    #expect(description.contains("24") && description.contains("--samples 2"))
  }

  @Test(arguments: [UInt64(0), 9])
  func fewerWindowsMayBeEnough(_ seed: UInt64) throws {
    let text = CalibrationText(String(repeating: "x", count: 20), path: "t")
    let fewer = try sampling(3, 8, seed: seed, allowsFewer: true).cut(text, with: ending)
    #expect(fewer.windows.map(\.count) == [8, 8])
    let shorter = try sampling(3, 21, seed: seed, allowsFewer: true).cut(text, with: ending)
    #expect(shorter.windows.map(\.count) == [20])
    for short in ["", "x"] {
      #expect(throws: CalibrationTextError.self) {
        try sampling(1, 2, seed: seed, allowsFewer: true)
          .cut(CalibrationText(short, path: "t"), with: ending)
      }
    }
  }

  @Test func theAuditCountsCharacters() throws {
    let text = CalibrationText("aé ж漢字かな한9{}.\n€", path: "t")
    let tokens = plain.encode(text.documents[0]).count
    let cut = try sampling(1, tokens).cut(text, with: plain)
    #expect(
      cut.audit.characters == [
        .latin: 2, .cyrillic: 1, .han: 2, .kana: 2, .hangul: 1, .digits: 1, .code: 2,
        .punctuation: 1, .symbols: 1,
      ])
    #expect(cut.audit.shares.prefix(4).map(\.script) == [.latin, .kana, .han, .code])
    #expect(abs(cut.audit.shares.reduce(0) { $0 + $1.share } - 1) < 1e-12)
    #expect(cut.audit.description.hasPrefix("1 window, \(tokens) tokens of 1 document: Latin 15 %"))
    let again = try JSONDecoder().decode(
      CalibrationAudit.self, from: JSONEncoder().encode(cut.audit))
    #expect(again == cut.audit)
  }

  @Test(
    arguments: [
      ("A", .latin), ("ß", .latin), ("ﬁ", .latin), ("λ", .greek), ("Я", .cyrillic),
      ("א", .hebrew), ("ع", .arabic), ("अ", .indic), ("ा", .indic), ("ท", .thai), ("가", .hangul),
      ("ア", .kana), ("中", .han), ("〇", .han), ("𠀀", .han), ("አ", .otherLetters), ("٣", .digits),
      ("½", .digits), ("×", .symbols), ("😀", .symbols), ("。", .punctuation), ("_", .code),
      ("[", .code), ("-", .punctuation), ("$", .code),
    ] as [(Unicode.Scalar, TextScript)])
  func charactersHaveAScript(_ scalar: Unicode.Scalar, _ script: TextScript) {
    #expect(TextScript(scalar) == script)
  }

  @Test(arguments: [" ", "\n", "\u{0}", "\u{301}", "\u{200D}", "\u{E000}"] as [Unicode.Scalar])
  func whatIsNotACharacterHasNone(_ scalar: Unicode.Scalar) { #expect(TextScript(scalar) == nil) }

  @Test func randomWindowsCoverTheVocabularyAndRepeat() {
    let windows = sampling(40, 50).randomWindows(below: 30, beginning: [7])
    #expect(windows.count == 40)
    #expect(windows.allSatisfy { $0.count == 50 && $0[0] == 7 })
    #expect(Set(windows.flatMap { $0 }) == Set(0..<30))
    #expect(Set(windows).count == 40)
    #expect(windows == sampling(40, 50).randomWindows(below: 30, beginning: [7]))
    #expect(windows != sampling(40, 50, seed: 1).randomWindows(below: 30, beginning: [7]))
  }
}
