extension TemplateInterpreter {
  func evaluate(_ expression: TemplateExpression) throws(ChatTemplateError) -> TemplateValue {
    try charge()
    try enter()
    defer { leave() }
    switch expression {
    case .none: return .none
    case .bool(let value): return .bool(value)
    case .int(let value): return .int(value)
    case .float(let value): return .float(value)
    case .string(let value): return .string(value)
    case .name(let name): return lookUp(name)
    case .list(let elements): return try list(try evaluate(elements))
    case .tuple(let elements): return .tuple(try items(try evaluate(elements)))
    case .dictionary(let members): return try dictionary(members)
    case .not(let operand): return .bool(!(try evaluate(operand).isTrue))
    case .negative(let operand): return try negated(try evaluate(operand))
    case .positive(let operand): return try positive(try evaluate(operand))
    case .all(let operands): return try firstOf(operands, that: false)
    case .any(let operands): return try firstOf(operands, that: true)
    case .concatenation(let operands): return try concatenation(operands)
    case .arithmetic(let first, let rest): return try arithmetic(first, rest)
    case .comparison(let first, let rest): return try comparison(first, rest)
    case .conditional(let value, let condition, let otherwise):
      return try conditional(value, condition, otherwise)
    case .postfix(let base, let parts): return try postfix(base, parts)
    }
  }

  private func lookUp(_ name: String) -> TemplateValue {
    if let value = scope[name] { return value }
    if let function = TemplateFunction(rawValue: name) { return .function(function) }
    return .undefined("'\(name)' is undefined")
  }

  private func evaluate(
    _ expressions: [TemplateExpression]
  ) throws(ChatTemplateError) -> [TemplateValue] {
    var values: [TemplateValue] = []
    for expression in expressions { values.append(try evaluate(expression)) }
    return values
  }

  func evaluate(
    _ arguments: TemplateExpression.Arguments
  ) throws(ChatTemplateError) -> TemplateArguments {
    var values = TemplateArguments(positional: try evaluate(arguments.positional))
    for (name, expression) in arguments.named {
      values.named.append((name, try evaluate(expression)))
    }
    return values
  }

  private func dictionary(
    _ members: [(key: TemplateExpression, value: TemplateExpression)]
  ) throws(ChatTemplateError) -> TemplateValue {
    var values: [(TemplateValue, TemplateValue)] = []
    for member in members { values.append((try evaluate(member.key), try evaluate(member.value))) }
    return try dictionary(values)
  }

  /// The first operand whose truth is `truth`, else the last: Python's `and` and `or`.
  private func firstOf(
    _ operands: [TemplateExpression], that truth: Bool
  ) throws(ChatTemplateError) -> TemplateValue {
    var value = TemplateValue.none
    for operand in operands {
      value = try evaluate(operand)
      if value.isTrue == truth { break }
    }
    return value
  }

  private func concatenation(
    _ operands: [TemplateExpression]
  ) throws(ChatTemplateError) -> TemplateValue {
    var result = ""
    for operand in operands {
      let part = try string(try evaluate(operand))
      try charge(part)
      guard part.utf8.count <= limits.outputBytes - result.utf8.count else {
        throw .tooMuchOutput(line: line, limit: limits.outputBytes)
      }
      result += part
    }
    return .string(result)
  }

  private func arithmetic(
    _ first: TemplateExpression, _ rest: [(TemplateExpression.Arithmetic, TemplateExpression)]
  ) throws(ChatTemplateError) -> TemplateValue {
    var value = try evaluate(first)
    for (operation, operand) in rest {
      try charge()
      value = try apply(operation, value, try evaluate(operand))
    }
    return value
  }

  private func comparison(
    _ first: TemplateExpression, _ rest: [(TemplateExpression.Comparison, TemplateExpression)]
  ) throws(ChatTemplateError) -> TemplateValue {
    var left = try evaluate(first)
    for (comparison, operand) in rest {
      let right = try evaluate(operand)
      guard try compare(left, comparison, right) else { return .bool(false) }
      left = right
    }
    return .bool(true)
  }

  private func conditional(
    _ value: TemplateExpression, _ condition: TemplateExpression,
    _ otherwise: TemplateExpression?
  ) throws(ChatTemplateError) -> TemplateValue {
    if try evaluate(condition).isTrue { return try evaluate(value) }
    guard let otherwise else {
      return .undefined("the condition is false and there is no 'else'")
    }
    return try evaluate(otherwise)
  }

  private func postfix(
    _ base: TemplateExpression, _ parts: [TemplateExpression.Postfix]
  ) throws(ChatTemplateError) -> TemplateValue {
    var value = try evaluate(base)
    for part in parts { value = try apply(part, to: value) }
    return value
  }

  func apply(
    _ part: TemplateExpression.Postfix, to value: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue {
    try charge()
    line = part.line
    switch part.kind {
    case .attribute(let name): return try attribute(name, of: value)
    case .item(let index): return try item(try evaluate(index), of: value)
    case .slice(let start, let stop, let step): return try slice(value, start, stop, step)
    case .call(let arguments): return try call(value, try evaluate(arguments))
    case .filter(let name, let arguments):
      return try filter(name, value, try evaluate(arguments))
    case .test(let name, let arguments, let negated):
      return .bool(try test(name, value, try evaluate(arguments)) != negated)
    }
  }

  private func slice(
    _ value: TemplateValue, _ start: TemplateExpression?, _ stop: TemplateExpression?,
    _ step: TemplateExpression?
  ) throws(ChatTemplateError) -> TemplateValue {
    func bound(_ expression: TemplateExpression?) throws(ChatTemplateError) -> Int? {
      guard let expression else { return nil }
      let value = try evaluate(expression)
      if case .none = value { return nil }
      guard let index = value.integer else {
        throw error("a slice needs integers, not \(value.typeName)")
      }
      return index
    }
    return try slice(value, try bound(start), try bound(stop), try bound(step))
  }
}
