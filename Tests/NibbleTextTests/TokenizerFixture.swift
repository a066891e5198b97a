import Foundation
import NibbleFormats
import NibbleText
import Testing

/// A tokenizer made by `Fixtures/tokenizer/make.py`, with what Hugging Face's code does with it.
struct TokenizerFixture {
  struct Case {
    var bytes: [UInt8]
    var special: Bool
    var ids: [Int]
    var text: String
    var plain: String
  }

  var name: String
  var file: JSON
  var config: JSON?
  var cases: [Case]

  static let names = [
    "gpt2", "digits", "llama3", "qwen2", "capitals", "llama2", "metaspace", "suffix", "unigram",
    "unigram_bytes", "precompiled", "words", "smollm", "llama_bpe", "config",
  ]

  init(_ name: String) throws {
    self.name = name
    let json = try Self.json(name)
    file = try #require(json["tokenizer"])
    config = json["config"].flatMap { $0.isNull ? nil : $0 }
    cases = try #require(json["cases"]?.array).map { entry in
      Case(
        bytes: Self.bytes(try #require(entry["hex"]?.string)),
        special: try #require(entry["special"]?.bool as Bool?),
        ids: try #require(entry["ids"]?.array).compactMap(\.int),
        text: try #require(entry["text"]?.string), plain: try #require(entry["plain"]?.string))
    }
    try #require(!cases.isEmpty)
  }

  func tokenizer() throws -> Tokenizer { try Tokenizer(tokenizerJSON: file, config: config) }

  static func json(_ name: String) throws -> JSON {
    let url = try #require(
      Bundle.module.url(forResource: "Fixtures/tokenizer/\(name)", withExtension: "json"))
    return try JSON(parsing: [UInt8](Data(contentsOf: url)))
  }

  static func bytes(_ hex: String) -> [UInt8] {
    let digits = hex.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map {
      UInt8(digits[$0] << 4 | digits[$0 + 1])
    }
  }
}

/// Exact bytes: Swift's own equality of strings is canonical equivalence.
func expectSame(
  _ ours: String, _ theirs: String, _ context: @autoclosure () -> String,
  at location: SourceLocation = #_sourceLocation
) {
  let same = ours.utf8.elementsEqual(theirs.utf8)
  #expect(
    same, "\(context()): \(ours.debugDescription) for \(theirs.debugDescription)",
    sourceLocation: location)
}
