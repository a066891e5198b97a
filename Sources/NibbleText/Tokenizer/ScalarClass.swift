/// The properties of a Unicode scalar that patterns use: its general category, `\s` and `\w`.
///
/// They follow Unicode 16, as the engines behind Hugging Face's tokenizers do, so that a newer
/// Swift standard library does not change ids. One byte per scalar, built at first use.
struct ScalarClass: Sendable {
  /// Bits 0-4: general category; bit 5: White_Space; bits 6-7: `WordSort`.
  private let bits: UInt8

  /// The engines that take a scalar as part of a word: Oniguruma, which runs the patterns in files,
  /// or Rust's engine, which runs the steps with built-in patterns.
  private enum WordSort {
    static let both: UInt8 = 0x40
    static let oniguruma: UInt8 = 0x80
    static let rust: UInt8 = 0xC0
  }

  private static let table: [UInt8] = (0..<limit).map { value in
    Unicode.Scalar(value).map(classify) ?? UInt8(Category.surrogate)
  }
  /// Above are only unassigned scalars, private use, tags and variation selectors.
  private static let limit: UInt32 = 0x34000
  private static let unicodeVersion = 16

  @inline(__always)
  init(_ scalar: UInt32) {
    if scalar < Self.limit {
      bits = Self.table[Int(scalar)]
    } else {
      bits = Unicode.Scalar(scalar).map(Self.classify) ?? UInt8(Category.surrogate)
    }
  }

  @inline(__always) var isLetter: Bool { isIn(Category.letter) }
  @inline(__always) var isNumber: Bool { isIn(Category.number) }
  @inline(__always) var isSpace: Bool { bits & 0x20 != 0 }
  var isMark: Bool { isIn(Category.mark) }
  /// `\w` of Oniguruma: alphabetic, a mark, a decimal digit or connecting punctuation, and Latin-1's
  /// fractions and superscript digits.
  var isWord: Bool { bits & 0xC0 == WordSort.both || bits & 0xC0 == WordSort.oniguruma }
  /// `\w` of Rust: with the two joiners, without those fractions and digits.
  var isRustWord: Bool { bits & 0xC0 == WordSort.both || bits & 0xC0 == WordSort.rust }

  @inline(__always)
  func isIn(_ categories: UInt32) -> Bool { categories >> (bits & 31) & 1 != 0 }

  private static let word =
    Category.letter | Category.mark | Category.set("Nd") | Category.set("Nl") | Category.set("Pc")
  /// The categories that hold some letters beside other scalars, and those that hold white space.
  private static let maybeAlphabetic = Category.set("So")
  private static let space = Category.set("Z") | Category.set("Cc")

  private static func classify(_ scalar: Unicode.Scalar) -> UInt8 {
    let properties = scalar.properties
    let category = Category.index(of: properties.generalCategory)
    let version = properties.age?.major ?? 0
    guard version <= unicodeVersion else { return UInt8(Category.unassigned) }
    var bits = UInt8(category)
    if space >> category & 1 != 0, properties.isWhitespace { bits |= 0x20 }
    switch scalar.value {
    case 0xB2, 0xB3, 0xB9, 0xBC...0xBE: bits |= WordSort.oniguruma
    case 0x200C, 0x200D: bits |= WordSort.rust
    default:
      if word >> category & 1 != 0
        || (maybeAlphabetic >> category & 1 != 0 && properties.isAlphabetic)
      {
        bits |= WordSort.both
      }
    }
    return bits
  }

  /// The scalars that the `Punctuation` step splits around: printable ASCII that is neither letter
  /// nor digit, and the punctuation of Unicode 8, whose tables its code carries.
  static func isPunctuation(_ value: UInt32) -> Bool {
    switch value {
    case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E, 0x166D, 0x111C9: return true
    default:
      guard ScalarClass(value).isIn(Category.punctuation), let scalar = Unicode.Scalar(value) else {
        return false
      }
      return scalar.properties.age?.major ?? 0 <= 8
    }
  }
}

/// General categories as bits of a mask.
enum Category {
  static let names = [
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi",
    "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
  ]
  static let surrogate: UInt32 = 27
  static let unassigned: UInt32 = 29
  static let letter: UInt32 = 0b11111
  static let mark: UInt32 = 0b111 << 5
  static let number: UInt32 = 0b111 << 8
  static let punctuation: UInt32 = 0b111_1111 << 11

  /// The mask of a name such as `Lu`, or of a group such as `L`; 0 when there is none.
  static func set(_ name: String) -> UInt32 {
    names.indices.reduce(0) { mask, index in
      names[index] == name || String(names[index].prefix(1)) == name ? mask | 1 << index : mask
    }
  }

  static func index(of category: Unicode.GeneralCategory) -> UInt32 {
    switch category {
    case .uppercaseLetter: 0
    case .lowercaseLetter: 1
    case .titlecaseLetter: 2
    case .modifierLetter: 3
    case .otherLetter: 4
    case .nonspacingMark: 5
    case .spacingMark: 6
    case .enclosingMark: 7
    case .decimalNumber: 8
    case .letterNumber: 9
    case .otherNumber: 10
    case .connectorPunctuation: 11
    case .dashPunctuation: 12
    case .openPunctuation: 13
    case .closePunctuation: 14
    case .initialPunctuation: 15
    case .finalPunctuation: 16
    case .otherPunctuation: 17
    case .mathSymbol: 18
    case .currencySymbol: 19
    case .modifierSymbol: 20
    case .otherSymbol: 21
    case .spaceSeparator: 22
    case .lineSeparator: 23
    case .paragraphSeparator: 24
    case .control: 25
    case .format: 26
    case .surrogate: surrogate
    case .privateUse: 28
    case .unassigned: unassigned
    @unknown default: unassigned
    }
  }
}
