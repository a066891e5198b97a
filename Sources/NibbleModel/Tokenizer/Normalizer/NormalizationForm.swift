internal import Foundation

/// The four Unicode normalization forms, as Hugging Face's tokenizers compute them: with the data of
/// Unicode 9. A scalar that is younger stays as it is and keeps its neighbours apart.
enum NormalizationForm: Sendable {
  case nfc
  case nfd
  case nfkc
  case nfkd

  private static let unicodeVersion = 9

  /// By scalar; false from `limit` on, where only variation selectors were assigned by Unicode 9.
  private static let isYoung: [Bool] = (0..<limit).map { value in
    guard let scalar = Unicode.Scalar(value) else { return false }
    return (scalar.properties.age?.major ?? 0) > unicodeVersion
  }
  private static let limit: UInt32 = 0x34000

  @inline(__always)
  private static func isYoung(_ scalar: UInt32) -> Bool { scalar < limit && isYoung[Int(scalar)] }

  static func isMark(_ scalar: UInt32) -> Bool { ScalarClass(scalar).isMark && !isYoung(scalar) }

  /// ASCII is the same in every form, and everything below U+0300 is the same in NFC.
  func apply(to text: [UInt8]) -> [UInt8] {
    let safe: UInt8 = self == .nfc ? 0xCC : 0x80
    guard text.contains(where: { $0 >= safe }) else { return text }
    let span = text.span
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var start = 0
    var at = 0
    while at < text.count {
      let scalar = span.scalar(at: at)
      let next = at + scalar.length
      if Self.isYoung(scalar.value) {
        result += form(text[start..<at])
        result += text[at..<next]
        start = next
      }
      at = next
    }
    return result + form(text[start...])
  }

  private func form(_ text: ArraySlice<UInt8>) -> [UInt8] {
    let string = String(decoding: text, as: UTF8.self)
    let result =
      switch self {
      case .nfc: string.precomposedStringWithCanonicalMapping
      case .nfd: string.decomposedStringWithCanonicalMapping
      case .nfkc: string.precomposedStringWithCompatibilityMapping
      case .nfkd: string.decomposedStringWithCompatibilityMapping
      }
    return Array(result.utf8)
  }
}
