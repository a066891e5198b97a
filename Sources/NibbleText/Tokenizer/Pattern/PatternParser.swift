/// Parses the part of Oniguruma's syntax that tokenizers use. Other constructs are refused by name.
struct PatternParser {
  private let pattern: String
  private let scalars: [Unicode.Scalar]
  private var at = 0
  private var depth = 0
  private var ignoresCase = false

  static let depthLimit = 64
  static let repeatLimit = 1000

  static func parse(_ pattern: String) throws(TokenizerError) -> PatternTree {
    var parser = PatternParser(pattern)
    let tree = try parser.alternatives()
    guard parser.at == parser.scalars.count else { throw parser.error("a ) opens nowhere") }
    return tree
  }

  private init(_ pattern: String) {
    self.pattern = pattern
    scalars = Array(pattern.unicodeScalars)
  }

  private func error(_ reason: String) -> TokenizerError { .badPattern(pattern, reason: reason) }

  private var next: Unicode.Scalar? { at < scalars.count ? scalars[at] : nil }

  private mutating func take(_ text: String) -> Bool {
    let wanted = Array(text.unicodeScalars)
    guard scalars[at...].starts(with: wanted) else { return false }
    at += wanted.count
    return true
  }

  private mutating func one() throws(TokenizerError) -> Unicode.Scalar {
    guard let scalar = next else { throw error("it ends too early") }
    at += 1
    return scalar
  }

  private mutating func alternatives() throws(TokenizerError) -> PatternTree {
    depth += 1
    guard depth <= Self.depthLimit else { throw error("groups nest deeper than 64") }
    var branches = [try sequence()]
    while take("|") { branches.append(try sequence()) }
    depth -= 1
    return branches.count == 1 ? branches[0] : .alternatives(branches)
  }

  private mutating func sequence() throws(TokenizerError) -> PatternTree {
    var parts: [PatternTree] = []
    while let scalar = next, scalar != "|", scalar != ")" {
      parts.append(try quantified(atom()))
    }
    return parts.count == 1 ? parts[0] : .sequence(parts)
  }

  private mutating func atom() throws(TokenizerError) -> PatternTree {
    switch try one() {
    case "(": return try group()
    case "[": return .set(try bracket())
    case ".": return .set(ScalarSet(members: [.range(0x0A...0x0A)], isNegated: true))
    case "^": return .condition(.lineStart)
    case "$": return .condition(.lineEnd)
    case "\\":
      if take("A") { return .condition(.textStart) }
      if take("z") { return .condition(.textEnd) }
      if take("Z") { return .condition(.lastLineEnd) }
      if take("b") { return .condition(.wordBoundary(true)) }
      if take("B") { return .condition(.wordBoundary(false)) }
      return .set(try escape())
    case "*", "+", "?": throw error("a quantifier has nothing to repeat")
    case let scalar: return .set(.scalar(scalar, ignoresCase: ignoresCase))
    }
  }

  private mutating func group() throws(TokenizerError) -> PatternTree {
    let outer = ignoresCase
    defer { ignoresCase = outer }
    if take("?=") { return .condition(.next(try lookSet(), present: true)) }
    if take("?!") { return .condition(.next(try lookSet(), present: false)) }
    if take("?<=") { return .condition(.previous(try lookSet(), present: true)) }
    if take("?<!") { return .condition(.previous(try lookSet(), present: false)) }
    if take("?i:") {
      ignoresCase = true
    } else if take("?-i:") {
      ignoresCase = false
    } else if !take("?:"), next == "?" {
      throw error("groups other than (?:), (?i:), (?-i:), (?=), (?!), (?<=), (?<!) are not known")
    }
    let tree = try alternatives()
    guard take(")") else { throw error("a ( is not closed") }
    return tree
  }

  /// The content of a look-ahead or look-behind: one set of scalars, or a choice of such sets.
  private mutating func lookSet() throws(TokenizerError) -> ScalarSet {
    func set(_ tree: PatternTree) -> ScalarSet? {
      switch tree {
      case .set(let set): return set
      case .alternatives(let branches):
        let sets = branches.compactMap(set)
        guard sets.count == branches.count else { return nil }
        return ScalarSet(members: sets.map { .set($0) })
      default: return nil
      }
    }
    guard let set = set(try alternatives()) else {
      throw error("looking around reaches one scalar only")
    }
    guard take(")") else { throw error("a ( is not closed") }
    return set
  }

  private mutating func quantified(_ tree: PatternTree) throws(TokenizerError) -> PatternTree {
    guard let (min, max) = try bounds() else { return tree }
    if case .condition = tree { throw error("a condition cannot be repeated") }
    let lazy = take("?")
    if let next, "*+?{".unicodeScalars.contains(next) {
      throw error("possessive or doubled quantifiers are not known")
    }
    return .repeated(tree, min: min, max: max, lazy: lazy)
  }

  private mutating func bounds() throws(TokenizerError) -> (Int, Int?)? {
    if take("*") { return (0, nil) }
    if take("+") { return (1, nil) }
    if take("?") { return (0, 1) }
    let start = at
    guard take("{") else { return nil }
    let low = number()
    var high = low
    if take(",") { high = number() }
    let open = scalars[at - 1] == ","
    guard take("}"), low != nil || high != nil else {
      at = start
      throw error("a { that starts no count must be written \\{")
    }
    let min = low ?? 0
    guard min <= Self.repeatLimit, (high ?? 0) <= Self.repeatLimit, open || min <= high ?? min
    else { throw error("a count is above 1000 or runs backwards") }
    return (min, open ? nil : high)
  }

  private mutating func number() -> Int? {
    var value: Int?
    while let digit = next, ("0"..."9").contains(digit) {
      value = min((value ?? 0) * 10 + Int(digit.value - 48), 1_000_000)
      at += 1
    }
    return value
  }
}

extension PatternParser {
  private mutating func bracket() throws(TokenizerError) -> ScalarSet {
    depth += 1
    guard depth <= Self.depthLimit else { throw error("sets nest deeper than 64") }
    defer { depth -= 1 }
    var set = ScalarSet(members: [], isNegated: take("^"))
    var isFirst = true
    while isFirst || next != "]" {
      isFirst = false
      if take("[:") || take("&&") { throw error("[: and && in sets are not known") }
      let item = try member()
      guard case .range(let low) = item, low.count == 1, next == "-", at + 1 < scalars.count,
        scalars[at + 1] != "]"
      else {
        set.members += withoutCase(item)
        continue
      }
      at += 1
      guard case .range(let high) = try member(), high.count == 1,
        low.lowerBound <= high.lowerBound
      else { throw error("a range in a set runs backwards") }
      set.members += withoutCase(.range(low.lowerBound...high.lowerBound))
    }
    at += 1
    return set
  }

  private mutating func member() throws(TokenizerError) -> ScalarSet.Member {
    switch try one() {
    case "[": return .set(try bracket())
    case "\\":
      let set = try escape(inSet: true)
      return set.members.count == 1 && !set.isNegated ? set.members[0] : .set(set)
    case let scalar: return .range(scalar.value...scalar.value)
    }
  }

  /// A short range, with the other case of its members.
  private func withoutCase(_ member: ScalarSet.Member) -> [ScalarSet.Member] {
    guard ignoresCase, case .range(let range) = member, range.count <= 256 else { return [member] }
    return range.flatMap { value in
      Unicode.Scalar(value).map { ScalarSet.scalar($0, ignoresCase: true).members } ?? []
    }
  }

  private mutating func escape(inSet: Bool = false) throws(TokenizerError) -> ScalarSet {
    let scalar = try one()
    switch scalar {
    case "s": return ScalarSet(members: [.space])
    case "S": return ScalarSet(members: [.space], isNegated: true)
    case "w": return ScalarSet(members: [.word])
    case "W": return ScalarSet(members: [.word], isNegated: true)
    case "d": return ScalarSet(members: [.categories(Category.set("Nd"))])
    case "D": return ScalarSet(members: [.categories(Category.set("Nd"))], isNegated: true)
    case "p", "P": return try property(isNegated: scalar == "P")
    case "n": return .range(0x0A...0x0A)
    case "r": return .range(0x0D...0x0D)
    case "t": return .range(0x09...0x09)
    case "f": return .range(0x0C...0x0C)
    case "v": return .range(0x0B...0x0B)
    case "a": return .range(0x07...0x07)
    case "e": return .range(0x1B...0x1B)
    case "x": return try hexadecimal(braced: take("{") ? nil : 2)
    case "u": return try hexadecimal(braced: 4)
    case "b" where inSet: return .range(0x08...0x08)
    case let letter where letter.properties.isAlphabetic || ("0"..."9").contains(letter):
      throw error("\\\(letter) is not known")
    default: return .scalar(scalar, ignoresCase: ignoresCase && !inSet)
    }
  }

  private mutating func property(isNegated: Bool) throws(TokenizerError) -> ScalarSet {
    guard take("{") else { throw error("\\p needs a name in braces") }
    let inverted = take("^")
    var name = ""
    while let scalar = next, scalar != "}" {
      name.unicodeScalars.append(scalar)
      at += 1
    }
    guard take("}") else { throw error("\\p{ is not closed") }
    let mask = Category.set(name)
    guard mask != 0 else { throw error("\\p{\(name)} is not a general category") }
    return ScalarSet(members: [.categories(mask)], isNegated: isNegated != inverted)
  }

  /// `\xHH` and `\uHHHH` with up to `braced` digits, or `\x{...}` when it is nil.
  private mutating func hexadecimal(braced count: Int?) throws(TokenizerError) -> ScalarSet {
    var value: UInt32 = 0
    var digits = 0
    while digits < count ?? 6, let digit = next, digit.properties.isASCIIHexDigit {
      value = value << 4 | UInt32(Character(digit).hexDigitValue ?? 0)
      digits += 1
      at += 1
    }
    guard digits > 0, count != nil || take("}"), Unicode.Scalar(value) != nil else {
      throw error("a hexadecimal escape names no character")
    }
    return .range(value...value)
  }
}
