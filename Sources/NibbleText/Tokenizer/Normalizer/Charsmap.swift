internal import Foundation

/// SentencePiece's precompiled replacements: a double-array trie from character sequences to text.
///
/// Layout: u32 little-endian size of the trie in bytes, the trie's u32 units, then the replacements,
/// each ended by a NUL. A unit holds, from bit 0: label (8), has a leaf (1), offset scale (1),
/// offset (22); a leaf holds its value in 31 bits. As in Hugging Face's code the shortest match wins,
/// whole grapheme clusters under 6 bytes are tried first, then their scalars.
struct Charsmap: Sendable {
  private var units: [UInt32] = []
  private var texts: [UInt8] = []
  /// Length of the longest replacement in bytes.
  private(set) var longestReplacement = 0

  init(base64: String, path: String) throws(TokenizerError) {
    guard let data = Data(base64Encoded: base64) else {
      throw .wrongKind(path, expected: "base64")
    }
    let bytes = [UInt8](data)
    func word(_ at: Int) -> UInt32 {
      UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2]) << 16
        | UInt32(bytes[at + 3]) << 24
    }
    guard bytes.count >= 4, case let size = Int(word(0)), size.isMultiple(of: 4), size > 0,
      size <= bytes.count - 4
    else { throw .wrongKind(path, expected: "a trie and its replacements") }
    units = (0..<size / 4).map { word(4 + 4 * $0) }
    texts = Array(bytes[(4 + size)...])
    guard String(validating: texts, as: UTF8.self) != nil else {
      throw .wrongKind(path, expected: "valid UTF-8 replacements")
    }
    var length = 0
    for byte in texts {
      length = byte == 0 ? 0 : length + 1
      longestReplacement = max(longestReplacement, length)
    }
  }

  func apply(to text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    for character in String(decoding: text, as: UTF8.self) {
      let bytes = Array(character.utf8)
      if bytes.count < 6, let replacement = replacement(of: bytes) {
        result += replacement
        continue
      }
      for scalar in character.unicodeScalars {
        var bytes: [UInt8] = []
        bytes.append(scalar)
        result += replacement(of: bytes) ?? bytes[...]
      }
    }
    return result
  }

  /// The replacement of the shortest key that `key` begins with. A unit outside the trie, a value
  /// outside the texts or in the middle of a character counts as no match.
  private func replacement(of key: [UInt8]) -> ArraySlice<UInt8>? {
    var at = Self.offset(units[0])
    for byte in key {
      guard byte != 0 else { return nil }
      at ^= Int(byte)
      guard at < units.count, units[at] & 0x8000_00FF == UInt32(byte) else { return nil }
      let unit = units[at]
      at ^= Self.offset(unit)
      guard unit & 0x100 != 0 else { continue }
      guard at < units.count, case let start = Int(units[at] & 0x7FFF_FFFF), start <= texts.count,
        start == texts.count || texts[start] & 0xC0 != 0x80
      else { return nil }
      return texts[start...].prefix { $0 != 0 }
    }
    return nil
  }

  private static func offset(_ unit: UInt32) -> Int {
    Int(unit >> 10) << Int((unit & 0x200) >> 6)
  }
}
