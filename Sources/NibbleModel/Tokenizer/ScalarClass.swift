/// What patterns ask of a Unicode scalar: its general category, `\s` and `\w`.
///
/// The categories are those of the Swift standard library. One byte per scalar, built at first use.
struct ScalarClass: Sendable {
  /// Bits 0-4: general category; bit 5: White_Space; bit 6: part of a word.
  let bits: UInt8

  private static let table: [UInt8] = (0..<limit).map { value in
    Unicode.Scalar(value).map(classify) ?? UInt8(Category.surrogate)
  }
  /// Above lie only unassigned scalars, private use, tags and variation selectors.
  private static let limit: UInt32 = 0x34000

  @inline(__always)
  init(_ scalar: UInt32) {
    if scalar < Self.limit {
      bits = Self.table[Int(scalar)]
    } else {
      bits = Unicode.Scalar(scalar).map(Self.classify) ?? UInt8(Category.surrogate)
    }
  }

  @inline(__always) var isLetter: Bool { Category.letter >> (bits & 31) & 1 != 0 }
  @inline(__always) var isNumber: Bool { Category.number >> (bits & 31) & 1 != 0 }
  @inline(__always) var isSpace: Bool { bits & 0x20 != 0 }
  /// `\w`: alphabetic, a mark, a decimal digit or connecting punctuation.
  @inline(__always) var isWord: Bool { bits & 0x40 != 0 }
  var isMark: Bool { isIn(Category.mark) }
  var isPunctuation: Bool { isIn(Category.punctuation) }

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
    var bits = UInt8(category)
    if space >> category & 1 != 0, properties.isWhitespace { bits |= 0x20 }
    let isWord =
      word >> category & 1 != 0 || (maybeAlphabetic >> category & 1 != 0 && properties.isAlphabetic)
    if isWord { bits |= 0x40 }
    return bits
  }
}

/// General categories as bits of a mask.
enum Category {
  static let names = [
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi",
    "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
  ]
  static let surrogate: UInt32 = 27
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
    case .unassigned: 29
    @unknown default: 29
    }
  }
}
