/// A set of Unicode scalars as patterns write it: `[^\s\p{L}]`, `\d`, a letter without case.
struct ScalarSet: Hashable, Sendable {
  enum Member: Hashable, Sendable {
    case range(ClosedRange<UInt32>)
    /// General categories, as a mask of `Category`.
    case categories(UInt32)
    case space
    case word
    /// As in the `Punctuation` step.
    case punctuation
    indirect case set(ScalarSet)
  }

  var members: [Member]
  var isNegated = false

  static let any = ScalarSet(members: [], isNegated: true)

  static func range(_ range: ClosedRange<UInt32>) -> ScalarSet {
    ScalarSet(members: [.range(range)])
  }

  /// One scalar, with its other cases when `ignoresCase`.
  static func scalar(_ scalar: Unicode.Scalar, ignoresCase: Bool) -> ScalarSet {
    var spellings = [scalar]
    if ignoresCase {
      for mapping in [scalar.properties.lowercaseMapping, scalar.properties.uppercaseMapping]
      where mapping.unicodeScalars.count == 1 {
        spellings += mapping.unicodeScalars
      }
      switch scalar {
      case "s", "S": spellings.append("\u{17F}")
      case "k", "K": spellings.append("\u{212A}")
      case "å", "Å": spellings.append("\u{212B}")
      default: break
      }
    }
    return ScalarSet(members: spellings.map { .range($0.value...$0.value) })
  }

  func contains(_ scalar: UInt32) -> Bool {
    let kind = ScalarClass(scalar)
    for member in members {
      let belongs =
        switch member {
        case .range(let range): range.contains(scalar)
        case .categories(let mask): kind.isIn(mask)
        case .space: kind.isSpace
        case .word: kind.isWord
        case .punctuation: ScalarClass.isPunctuation(scalar)
        case .set(let set): set.contains(scalar)
        }
      if belongs { return !isNegated }
    }
    return isNegated
  }
}
