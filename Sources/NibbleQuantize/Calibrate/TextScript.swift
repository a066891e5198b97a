/// Kinds of characters, coarse enough to show which languages a text is in and how much of it is
/// code.
///
/// Letters are classified by Unicode block, which matches their script but for a few shared ones.
public enum TextScript: String, Hashable, Sendable, Codable, CodingKeyRepresentable, CaseIterable {
  case latin = "Latin"
  case greek = "Greek"
  case cyrillic = "Cyrillic"
  case hebrew = "Hebrew"
  case arabic = "Arabic"
  /// Devanagari, Bengali, Tamil and related scripts, U+0900 to U+0DFF.
  case indic = "Indic"
  case thai = "Thai"
  case hangul = "Hangul"
  case kana = "Kana"
  case han = "Han"
  case otherLetters = "other letters"
  case digits = "digits"
  case punctuation = "punctuation"
  /// ASCII signs that are more frequent in code than in prose, such as braces and the underscore.
  case code = "code signs"
  case symbols = "symbols"

  /// Nil for white space, control characters and combining marks.
  public init?(_ scalar: Unicode.Scalar) {
    if let script = Self.letters.first(where: { $0.0.contains(scalar.value) })?.1,
      scalar.properties.isAlphabetic || Self.isMark(scalar)
    {
      self = script
      return
    }
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
      self = .otherLetters
    case .decimalNumber, .letterNumber, .otherNumber: self = .digits
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
      .initialPunctuation, .finalPunctuation, .otherPunctuation, .mathSymbol, .currencySymbol,
      .modifierSymbol, .otherSymbol:
      if Self.codeSigns.contains(scalar) {
        self = .code
      } else if scalar.properties.generalCategory.isPunctuation {
        self = .punctuation
      } else {
        self = .symbols
      }
    default: return nil
    }
  }

  private static func isMark(_ scalar: Unicode.Scalar) -> Bool {
    [.nonspacingMark, .spacingMark].contains(scalar.properties.generalCategory)
  }

  private static let codeSigns = Set(#"{}[]<>=+*/\|&^%$#@`~_;"#.unicodeScalars)

  private static let letters: [(ClosedRange<UInt32>, TextScript)] = [
    (0x41...0x2AF, .latin), (0x1E00...0x1EFF, .latin), (0x2C60...0x2C7F, .latin),
    (0xA720...0xA7FF, .latin), (0xFB00...0xFB06, .latin), (0xFF21...0xFF5A, .latin),
    (0x370...0x3FF, .greek), (0x1F00...0x1FFF, .greek), (0x400...0x52F, .cyrillic),
    (0x1C80...0x1C8F, .cyrillic), (0x2DE0...0x2DFF, .cyrillic), (0xA640...0xA69F, .cyrillic),
    (0x590...0x5FF, .hebrew), (0xFB1D...0xFB4F, .hebrew), (0x600...0x6FF, .arabic),
    (0x750...0x77F, .arabic), (0x8A0...0x8FF, .arabic), (0xFB50...0xFDFF, .arabic),
    (0xFE70...0xFEFE, .arabic), (0x900...0xDFF, .indic), (0xE00...0xE7F, .thai),
    (0x1100...0x11FF, .hangul), (0x3130...0x318F, .hangul), (0xAC00...0xD7AF, .hangul),
    (0x3040...0x30FF, .kana), (0x31F0...0x31FF, .kana), (0xFF66...0xFF9F, .kana),
    (0x2E80...0x2FDF, .han), (0x3005...0x3007, .han), (0x3400...0x4DBF, .han),
    (0x4E00...0x9FFF, .han), (0xF900...0xFAFF, .han), (0x20000...0x3FFFF, .han),
  ]
}

extension Unicode.GeneralCategory {
  fileprivate var isPunctuation: Bool {
    switch self {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
      .initialPunctuation, .finalPunctuation, .otherPunctuation:
      true
    default: false
    }
  }
}
