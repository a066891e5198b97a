internal import Foundation

/// The four Unicode normalization forms.
enum NormalizationForm: Sendable {
  case nfc
  case nfd
  case nfkc
  case nfkd

  /// ASCII is the same in every form, and everything below U+0300 is the same in NFC.
  func apply(to text: [UInt8]) -> [UInt8] {
    let safe: UInt8 = self == .nfc ? 0xCC : 0x80
    guard text.contains(where: { $0 >= safe }) else { return text }
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
