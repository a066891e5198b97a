extension TemplateInterpreter {
  private static let comparisons: [String: TemplateExpression.Comparison] = [
    "eq": .equal, "equalto": .equal, "==": .equal, "ne": .unequal, "!=": .unequal,
    "lt": .less, "lessthan": .less, "<": .less, "le": .lessOrEqual, "<=": .lessOrEqual,
    "gt": .greater, "greaterthan": .greater, ">": .greater, "ge": .greaterOrEqual,
    ">=": .greaterOrEqual,
  ]

  /// `value is name(arguments)`.
  func test(
    _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> Bool {
    try charge()
    if let comparison = Self.comparisons[name] {
      return try compare(value, comparison, try operand(of: name, arguments))
    }
    switch name {
    case "in": return try contains(try operand(of: name, arguments), value)
    case "sameas": return try areSame(value, try operand(of: name, arguments))
    case "divisibleby":
      let rest = try apply(.remainder, value, try operand(of: name, arguments))
      return try areEqual(rest, .int(0))
    default:
      _ = try bind(arguments, to: [], of: name)
      return try isKind(name, value)
    }
  }

  private func operand(
    of name: String, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    try bind(arguments, to: ["other"], required: 1, of: name)[0] ?? .none
  }

  private func isKind(_ name: String, _ value: TemplateValue) throws(ChatTemplateError) -> Bool {
    switch (name, value) {
    case ("defined", _): return !value.isUndefined
    case ("undefined", _): return value.isUndefined
    case ("none", .none), ("boolean", .bool), ("integer", .int), ("float", .float),
      ("string", .string), ("mapping", .dictionary), ("callable", .macro),
      ("callable", .function), ("callable", .method), ("callable", .undefined):
      return true
    case ("true", .bool(let value)): return value
    case ("false", .bool(let value)): return !value
    case ("none", _), ("boolean", _), ("integer", _), ("float", _), ("string", _),
      ("mapping", _), ("callable", _), ("true", _), ("false", _), ("escaped", _):
      return false
    case ("number", _): return value.number != nil
    case ("odd", _), ("even", _):
      let rest = try apply(.remainder, value, .int(2))
      return try areEqual(rest, .int(name == "odd" ? 1 : 0))
    case ("lower", _): return Self.isLower(try string(value))
    case ("upper", _): return Self.isUpper(try string(value))
    case ("iterable", _): return Self.isIterable(value)
    case ("sequence", _): return Self.isSequence(value)
    default: throw .unsupported(line: line, "the test '\(name)'")
    }
  }

  private static func isIterable(_ value: TemplateValue) -> Bool {
    switch value {
    case .undefined, .string, .list, .tuple, .range, .view, .dictionary, .generator, .loop: true
    default: false
    }
  }

  private static func isSequence(_ value: TemplateValue) -> Bool {
    switch value {
    case .undefined, .string, .list, .tuple, .range, .dictionary: true
    default: false
    }
  }

  /// Python's `is`, for values where it means the same on every machine: singletons and small
  /// values.
  private func areSame(
    _ left: TemplateValue, _ right: TemplateValue
  ) throws(ChatTemplateError) -> Bool {
    switch (left, right) {
    case (.none, .none): return true
    case (.bool(let a), .bool(let b)): return a == b
    case (.int(let a), .int(let b)): return a == b
    case (.string(let a), .string(let b)): return a.isSame(as: b)
    case (.namespace, .namespace), (.macro, .macro), (.loop, .loop):
      return try areEqual(left, right)
    default: return false
    }
  }
}
