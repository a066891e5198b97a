internal import Foundation

/// Decompositions, compositions and combining classes of the scalars of Unicode 9.
///
/// Built at first use from Foundation's decompositions of single scalars.
struct NormalizationData: Sendable {
  static let shared = NormalizationData()

  /// Full decompositions of the scalars that have one, without Hangul syllables.
  private(set) var canonical: [UInt32: [UInt32]] = [:]
  private(set) var compatible: [UInt32: [UInt32]] = [:]
  /// first << 32 | second -> composite
  private var pairs = IntegerTable()

  private static let unicodeVersion = 9

  /// Scripts without decompositions that are too large to scan: Yi, Tangut, CJK ideographs.
  private static let plain: [ClosedRange<UInt32>] = [
    0x3400...0x4DBF, 0x4E00...0xA48C, 0xAC00...0xF8FF, 0x17000...0x18AFF, 0x20000...0x2CEAF,
  ]

  private init() {
    var wholes: [[UInt32]: UInt32] = [:]
    for value in UInt32(0xA0)..<0x2FA20 {
      guard !Self.plain.contains(where: { $0.contains(value) }),
        let scalar = Unicode.Scalar(value), Self.isKnown(scalar)
      else { continue }
      let text = String(Character(scalar))
      let parts = text.decomposedStringWithCanonicalMapping.unicodeScalars.map(\.value)
      if parts != [value] {
        canonical[value] = parts
        if !scalar.properties.isFullCompositionExclusion { wholes[parts] = value }
      }
      let loose = text.decomposedStringWithCompatibilityMapping.unicodeScalars.map(\.value)
      if loose != [value] { compatible[value] = loose }
    }
    for (parts, whole) in wholes {
      guard let last = parts.last, parts.count > 1 else { continue }
      let head = Array(parts.dropLast())
      guard let first = head.count == 1 ? head[0] : wholes[head] else { continue }
      pairs.set(UInt64(whole), for: UInt64(first) << 32 | UInt64(last))
    }
  }

  private static func isKnown(_ scalar: Unicode.Scalar) -> Bool {
    guard let version = scalar.properties.age?.major else { return false }
    return version <= unicodeVersion
  }

  func composite(_ first: UInt32, _ second: UInt32) -> UInt32? {
    pairs.value(for: UInt64(first) << 32 | UInt64(second)).map { UInt32($0) }
  }

  /// The canonical combining class; 0 for starters.
  func order(of value: UInt32) -> UInt8 {
    guard value >= 0x300, let scalar = Unicode.Scalar(value) else { return 0 }
    let order = scalar.properties.canonicalCombiningClass.rawValue
    return order == 0 || Self.isKnown(scalar) ? order : 0
  }

  /// Category M of Unicode 9, in which two later marks were still letters and U+111C9 was
  /// punctuation.
  static func isMark(_ value: UInt32) -> Bool {
    guard value != 0x1CF2, value != 0x1CF3 else { return true }
    guard value != 0x111C9, ScalarClass(value).isMark, let scalar = Unicode.Scalar(value) else {
      return false
    }
    return isKnown(scalar)
  }
}
