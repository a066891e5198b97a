/// The printable characters that byte-level tokenizers write for bytes, introduced by GPT-2.
///
/// Printable ASCII and Latin-1 stand for themselves; the other 68 bytes take U+0100 upwards in order.
enum ByteLevel {
  /// `[256]` characters.
  static let characters: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (0..<256).map { (byte: UInt32) in
      if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte)
        || (0xAE...0xFF).contains(byte)
      {
        return Unicode.Scalar(UInt8(byte))
      }
      defer { next += 1 }
      return Unicode.Scalar(next) ?? "\u{FFFD}"
    }
  }()

  /// The byte of each character below U+0144.
  private static let bytes: [UInt8?] = {
    var bytes = [UInt8?](repeating: nil, count: 0x144)
    for (byte, character) in characters.enumerated() { bytes[Int(character.value)] = UInt8(byte) }
    return bytes
  }()

  static func encode(_ raw: some Sequence<UInt8>) -> [UInt8] {
    var text: [UInt8] = []
    for byte in raw { text.append(characters[Int(byte)]) }
    return text
  }

  /// The bytes that a token's characters stand for; nil when a character stands for no byte.
  static func decode(_ token: ArraySlice<UInt8>) -> [UInt8]? {
    var raw: [UInt8] = []
    raw.reserveCapacity(token.count)
    for scalar in String(decoding: token, as: UTF8.self).unicodeScalars {
      guard scalar.value < 0x144, let byte = bytes[Int(scalar.value)] else { return nil }
      raw.append(byte)
    }
    return raw
  }
}
