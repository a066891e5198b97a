import NibbleFormats
import Testing

@testable import NibbleText

/// Oracle: the classes of Hugging Face's pattern engine, for every code point that is assigned.
@Suite struct TokenizerUnicodeTests {
  @Test(arguments: ["letter", "number", "space", "word", "mark", "punctuation", "upper"])
  func classesAreThoseOfThePatternEngine(_ name: String) throws {
    let changes = try #require(try TokenizerFixture.json("unicode")[name]?.array).compactMap(\.int)
    var differences: [String] = []
    var next = changes[...]
    var expected = false
    for value in Array(UInt32(0)..<0x34000) + Array(0xE0000..<0xE0200) {
      while let change = next.first, change <= Int(value) {
        expected.toggle()
        next.removeFirst()
      }
      guard Unicode.Scalar(value) != nil else { continue }
      let kind = ScalarClass(value)
      let ours =
        switch name {
        case "letter": kind.isLetter
        case "number": kind.isNumber
        case "space": kind.isSpace
        case "word": kind.isWord
        case "mark": kind.isMark
        case "upper": kind.isIn(Category.set("Lu"))
        default: ScalarClass.isPunctuation(value)
        }
      if ours != expected { differences.append(String(value, radix: 16)) }
    }
    #expect(differences.isEmpty, "\(differences.count): \(differences.prefix(40))")
  }

  @Test(arguments: ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"])
  func formsAreThoseOfHuggingFace(_ name: String) throws {
    let fixture = try TokenizerFixture.json("forms")
    let hashes = try #require(fixture[name]?.array).map(\.string)
    let blocks = try #require(fixture["blocks"]?.array).compactMap(\.int)
    let step = try Normalizer(TokenizerSection(json: ["type": .string(name)], path: name))
    for (block, expected) in zip(blocks, hashes) {
      var text: [UInt8] = []
      for value in UInt32(block)..<UInt32(block + 4096) {
        guard let scalar = Unicode.Scalar(value) else { continue }
        text += Array("a".utf8)
        text.append(scalar)
        text += Array("\u{323}\u{301} ".utf8)
      }
      var hash: UInt64 = 0xCBF2_9CE4_8422_2325
      for byte in step.normalize(text) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
      #expect(hash == expected.flatMap { UInt64($0, radix: 16) }, "block \(block)")
    }
  }
}
