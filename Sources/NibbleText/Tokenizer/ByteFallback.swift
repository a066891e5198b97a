/// Tokens that stand for one byte of text that no other token covers, spelled `<0xAB>`.
enum ByteFallback {
  static func name(_ byte: UInt8) -> String {
    let hex = String(byte, radix: 16, uppercase: true)
    return "<0x" + (hex.count < 2 ? "0" : "") + hex + ">"
  }

  /// `[256]` ids; nil where the vocabulary has no token for that byte.
  static func tokens(of vocabulary: Vocabulary) -> [Int32?] {
    (0..<256).map { vocabulary.id(of: name(UInt8($0))).map { Int32($0) } }
  }

  /// The byte that a token's spelling stands for, with digits of either case.
  static func byte(of token: some Collection<UInt8>) -> UInt8? {
    let token = Array(token)
    guard token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">"),
      let high = digit(token[3]), let low = digit(token[4])
    else { return nil }
    return high << 4 | low
  }

  private static func digit(_ character: UInt8) -> UInt8? {
    switch character {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
