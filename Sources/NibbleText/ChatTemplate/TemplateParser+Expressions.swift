extension TemplateParser {
  /// One expression, or several with commas between: a tuple.
  mutating func tuple(
    conditional: Bool = true, endsWith end: String? = nil, inBrackets: Bool = false
  ) throws(ChatTemplateError) -> TemplateExpression {
    var parts: [TemplateExpression] = []
    var isTuple = false
    while !tupleEnds(endsWith: end) {
      parts.append(try conditional ? expression() : disjunction())
      guard take(.symbol(",")) else { break }
      isTuple = true
    }
    if isTuple || (parts.isEmpty && inBrackets) { return .tuple(parts) }
    guard let first = parts.first else {
      throw .syntax(line: line, "expected an expression, found \(kind.words)")
    }
    return first
  }

  private func tupleEnds(endsWith end: String?) -> Bool {
    switch kind {
    case .variableEnd, .blockEnd, .symbol(")"): true
    case .name(let name): name == end
    default: false
    }
  }

  mutating func expression() throws(ChatTemplateError) -> TemplateExpression {
    try descend()
    defer { ascend() }
    var value = try disjunction()
    var conditions = 0
    defer { for _ in 0..<conditions { ascend() } }
    while take(.name("if")) {
      conditions += 1
      try descend()
      let condition = try disjunction()
      let otherwise = take(.name("else")) ? try expression() : nil
      value = .conditional(value, if: condition, else: otherwise)
    }
    return value
  }

  private mutating func disjunction() throws(ChatTemplateError) -> TemplateExpression {
    var parts = [try conjunction()]
    while take(.name("or")) { parts.append(try conjunction()) }
    return parts.count == 1 ? parts[0] : .any(parts)
  }

  private mutating func conjunction() throws(ChatTemplateError) -> TemplateExpression {
    var parts = [try negation()]
    while take(.name("and")) { parts.append(try negation()) }
    return parts.count == 1 ? parts[0] : .all(parts)
  }

  private mutating func negation() throws(ChatTemplateError) -> TemplateExpression {
    guard take(.name("not")) else { return try comparison() }
    try descend()
    defer { ascend() }
    return .not(try negation())
  }

  private mutating func comparison() throws(ChatTemplateError) -> TemplateExpression {
    let first = try arithmetic()
    var rest: [(TemplateExpression.Comparison, TemplateExpression)] = []
    while let comparison = takeComparison() { rest.append((comparison, try arithmetic())) }
    return rest.isEmpty ? first : .comparison(first, rest)
  }

  private mutating func takeComparison() -> TemplateExpression.Comparison? {
    switch kind {
    case .symbol(let symbol):
      guard let comparison = TemplateExpression.Comparison(rawValue: symbol) else { return nil }
      advance()
      return comparison
    case .name("in"):
      advance()
      return .isIn
    case .name("not") where tokens[min(at + 1, tokens.count - 1)].kind == .name("in"):
      advance()
      advance()
      return .isNotIn
    default: return nil
    }
  }

  /// Reads `a op b op c ...` flat, then groups by precedence: `**`, then `* / // %`, then `~`,
  /// then `+ -`; all of them group to the left, `**` too, as in Jinja.
  private mutating func arithmetic() throws(ChatTemplateError) -> TemplateExpression {
    var operands = [try unary()]
    var operators: [String] = []
    while case .symbol(let symbol) = kind,
      symbol == "~" || TemplateExpression.Arithmetic(rawValue: symbol) != nil
    {
      advance()
      operators.append(symbol)
      operands.append(try unary())
    }
    for level in [["**"], ["*", "/", "//", "%"], ["~"], ["+", "-"]] {
      guard !operators.isEmpty else { break }
      Self.group(level, &operands, &operators)
    }
    return operands[0]
  }

  private static func group(
    _ level: [String], _ operands: inout [TemplateExpression], _ operators: inout [String]
  ) {
    var grouped: [TemplateExpression] = []
    var between: [String] = []
    var run: [(String, TemplateExpression)] = []
    var first = operands[0]
    func finish() {
      if run.isEmpty {
        grouped.append(first)
      } else if level == ["~"] {
        grouped.append(.concatenation([first] + run.map(\.1)))
      } else {
        grouped.append(
          .arithmetic(
            first,
            run.compactMap { symbol, operand in
              TemplateExpression.Arithmetic(rawValue: symbol).map { ($0, operand) }
            }))
      }
    }
    for (symbol, operand) in zip(operators, operands.dropFirst()) {
      if level.contains(symbol) {
        run.append((symbol, operand))
      } else {
        finish()
        between.append(symbol)
        first = operand
        run = []
      }
    }
    finish()
    (operands, operators) = (grouped, between)
  }

  private mutating func unary(withFilters: Bool = true) throws(ChatTemplateError)
    -> TemplateExpression
  {
    let base: TemplateExpression
    if kind == .symbol("-") || kind == .symbol("+") {
      let isNegative = kind == .symbol("-")
      advance()
      try descend()
      defer { ascend() }
      let operand = try unary(withFilters: false)
      base = isNegative ? .negative(operand) : .positive(operand)
    } else {
      base = try primary()
    }
    var parts: [TemplateExpression.Postfix] = []
    while let part = try postfix(withFilters: false) { parts.append(part) }
    if withFilters {
      while let part = try postfix(withFilters: true) { parts.append(part) }
    }
    return parts.isEmpty ? base : .postfix(base, parts)
  }

  private mutating func primary() throws(ChatTemplateError) -> TemplateExpression {
    let line = line
    switch kind {
    case .name(let name):
      advance()
      switch name {
      case "true", "True": return .bool(true)
      case "false", "False": return .bool(false)
      case "none", "None": return .none
      default:
        note(name: name)
        return .name(name)
      }
    case .string(var text):
      advance()
      while case .string(let more) = kind {
        text += more
        advance()
      }
      return .string(text)
    case .integer(let value):
      advance()
      return .int(value)
    case .float(let value):
      advance()
      return .float(value)
    case .symbol("("):
      advance()
      let value = try tuple(inBrackets: true)
      try expect(.symbol(")"))
      return value
    case .symbol("["): return try list()
    case .symbol("{"): return try dictionary()
    default: throw .syntax(line: line, "unexpected \(kind.words)")
    }
  }

  private mutating func list() throws(ChatTemplateError) -> TemplateExpression {
    advance()
    var elements: [TemplateExpression] = []
    while kind != .symbol("]") {
      elements.append(try expression())
      guard take(.symbol(",")) else { break }
    }
    try expect(.symbol("]"))
    return .list(elements)
  }

  private mutating func dictionary() throws(ChatTemplateError) -> TemplateExpression {
    advance()
    var members: [(key: TemplateExpression, value: TemplateExpression)] = []
    while kind != .symbol("}") {
      let key = try expression()
      try expect(.symbol(":"))
      members.append((key, try expression()))
      guard take(.symbol(",")) else { break }
    }
    try expect(.symbol("}"))
    return .dictionary(members)
  }
}

extension TemplateParser {
  /// The operand of a test written without brackets: `is divisibleby 3`.
  mutating func testOperand() throws(ChatTemplateError) -> TemplateExpression {
    let base = try primary()
    var parts: [TemplateExpression.Postfix] = []
    while let part = try postfix(withFilters: false) { parts.append(part) }
    return parts.isEmpty ? base : .postfix(base, parts)
  }
}
