extension TemplateParser {
  /// One attribute, subscript or call; with filters, one filter, test or call.
  mutating func postfix(
    withFilters: Bool
  ) throws(ChatTemplateError) -> TemplateExpression.Postfix? {
    let line = line
    switch kind {
    case .symbol("("): return .init(line: line, kind: .call(try arguments()))
    case .symbol("."):
      guard !withFilters else { return nil }
      advance()
      if case .integer(let index) = kind {
        advance()
        return .init(line: line, kind: .item(.int(index)))
      }
      return .init(line: line, kind: .attribute(try expectName()))
    case .symbol("["): return withFilters ? nil : .init(line: line, kind: try subscriptPart())
    case .symbol("|"):
      guard withFilters else { return nil }
      advance()
      return try filter()
    case .name("is"): return withFilters ? try test() : nil
    default: return nil
    }
  }

  mutating func filterChain(
    startsInline: Bool
  ) throws(ChatTemplateError) -> [TemplateExpression.Postfix] {
    var filters: [TemplateExpression.Postfix] = []
    if startsInline { filters.append(try filter()) }
    while take(.symbol("|")) { filters.append(try filter()) }
    return filters
  }

  private mutating func filter() throws(ChatTemplateError) -> TemplateExpression.Postfix {
    let line = line
    let name = try expectName()
    let arguments = kind == .symbol("(") ? try arguments() : TemplateExpression.Arguments()
    return .init(line: line, kind: .filter(name, arguments))
  }

  private mutating func test() throws(ChatTemplateError) -> TemplateExpression.Postfix {
    let line = line
    advance()
    let negated = take(.name("not"))
    let name = try expectName()
    var arguments = TemplateExpression.Arguments()
    switch kind {
    case .symbol("("): arguments = try self.arguments()
    case .name("else"), .name("or"), .name("and"): break
    case .name("is"): throw .syntax(line: line, "tests cannot be chained with 'is'")
    case .name, .string, .integer, .float, .symbol("["), .symbol("{"):
      arguments.positional = [try testOperand()]
    default: break
    }
    return .init(line: line, kind: .test(name, arguments, negated: negated))
  }

  mutating func arguments() throws(ChatTemplateError) -> TemplateExpression.Arguments {
    var arguments = TemplateExpression.Arguments()
    try expect(.symbol("("))
    while kind != .symbol(")") {
      if kind == .symbol("*") || kind == .symbol("**") {
        throw .unsupported(line: line, "unpacking of arguments with \(kind.words)")
      }
      if case .name(let name) = kind,
        tokens[min(at + 1, tokens.count - 1)].kind == .symbol("=")
      {
        let line = line
        guard !arguments.named.contains(where: { $0.name == name }) else {
          throw .syntax(line: line, "the argument '\(name)' stands twice")
        }
        advance()
        advance()
        arguments.named.append((name, try expression()))
      } else if arguments.named.isEmpty {
        arguments.positional.append(try expression())
      } else {
        throw .syntax(line: line, "an argument without a name follows one with a name")
      }
      guard take(.symbol(",")) else { break }
    }
    try expect(.symbol(")"))
    return arguments
  }

  private mutating func subscriptPart() throws(ChatTemplateError)
    -> TemplateExpression.Postfix.Kind
  {
    advance()
    guard kind != .symbol("]") else {
      advance()
      return .item(.tuple([]))
    }
    let start = kind == .symbol(":") ? nil : try expression()
    let result: TemplateExpression.Postfix.Kind
    if take(.symbol(":")) {
      let stop = try sliceBound()
      result = .slice(start, stop, take(.symbol(":")) ? try sliceBound() : nil)
    } else {
      var parts = [start ?? .none]
      var isTuple = false
      while take(.symbol(",")) {
        isTuple = true
        parts.append(try expression())
      }
      result = .item(isTuple ? .tuple(parts) : parts[0])
    }
    try expect(.symbol("]"))
    return result
  }

  private mutating func sliceBound() throws(ChatTemplateError) -> TemplateExpression? {
    kind == .symbol("]") || kind == .symbol(":") ? nil : try expression()
  }
}
