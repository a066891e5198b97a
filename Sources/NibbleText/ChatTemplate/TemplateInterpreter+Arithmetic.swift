import Foundation

extension TemplateInterpreter {
  /// Python's binary operators. Integers that leave 64 bits are an error.
  func apply(
    _ operation: TemplateExpression.Arithmetic, _ left: TemplateValue, _ right: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue {
    if let a = left.integer, let b = right.integer { return try integers(operation, a, b) }
    if let a = left.number, let b = right.number { return try floats(operation, a, b) }
    switch (operation, left, right) {
    case (.add, .string(let a), .string(let b)):
      guard a.utf8.count <= limits.outputBytes - b.utf8.count else {
        throw .tooMuchOutput(line: line, limit: limits.outputBytes)
      }
      return try text(a + b)
    case (.add, .list(let a), .list(let b)): return try list(a.values + b.values)
    case (.add, .tuple(let a), .tuple(let b)): return .tuple(try items(a.values + b.values))
    case (.multiply, .string(let text), let count), (.multiply, let count, .string(let text)):
      if let count = count.integer { return try repeated(text, count) }
    case (.multiply, .list(let items), let count), (.multiply, let count, .list(let items)):
      if let count = count.integer { return .list(try repeated(items, count)) }
    case (.multiply, .tuple(let items), let count), (.multiply, let count, .tuple(let items)):
      if let count = count.integer { return .tuple(try repeated(items, count)) }
    case (.remainder, .string(let format), let arguments):
      return try self.format(format, arguments)
    default: break
    }
    for case .undefined(let what) in [left, right] { throw error(what) }
    throw error(
      "'\(operation.rawValue)' does not take \(left.typeName) and \(right.typeName)")
  }

  private func repeated(_ text: String, _ count: Int) throws(ChatTemplateError) -> TemplateValue {
    let (bytes, overflow) = text.utf8.count.multipliedReportingOverflow(by: max(count, 0))
    guard !overflow, bytes <= limits.outputBytes else {
      throw .tooMuchOutput(line: line, limit: limits.outputBytes)
    }
    try charge(bytes / 64)
    return .string(bytes == 0 ? "" : String(repeating: text, count: count))
  }

  private func repeated(
    _ items: TemplateValue.Items, _ count: Int
  ) throws(ChatTemplateError) -> TemplateValue.Items {
    let (total, overflow) = items.values.count.multipliedReportingOverflow(by: max(count, 0))
    try charge(overflow ? Int.max : total / 4)
    var values: [TemplateValue] = []
    if total > 0 { for _ in 0..<count { values += items.values } }
    return try self.items(values)
  }

  private func integers(
    _ operation: TemplateExpression.Arithmetic, _ a: Int, _ b: Int
  ) throws(ChatTemplateError) -> TemplateValue {
    switch operation {
    case .add: return try exact(a.addingReportingOverflow(b))
    case .subtract: return try exact(a.subtractingReportingOverflow(b))
    case .multiply: return try exact(a.multipliedReportingOverflow(by: b))
    case .divide:
      guard b != 0 else { throw error("division by zero") }
      return .float(Double(a) / Double(b))
    case .floorDivide, .remainder:
      guard b != 0 else { throw error("division by zero") }
      let quotient = a.dividedReportingOverflow(by: b)
      if operation == .remainder, quotient.overflow { return .int(0) }
      guard !quotient.overflow else { throw error("an integer leaves 64 bits") }
      let rest = a % b
      let isBelow = rest != 0 && (rest < 0) != (b < 0)
      if operation == .remainder { return .int(isBelow ? rest + b : rest) }
      return .int(isBelow ? quotient.partialValue - 1 : quotient.partialValue)
    case .power: return try power(a, b)
    }
  }

  private func exact(
    _ result: (partialValue: Int, overflow: Bool)
  ) throws(ChatTemplateError) -> TemplateValue {
    guard !result.overflow else { throw error("an integer leaves 64 bits") }
    return .int(result.partialValue)
  }

  private func power(_ base: Int, _ exponent: Int) throws(ChatTemplateError) -> TemplateValue {
    guard exponent >= 0 else {
      guard base != 0 else { throw error("division by zero") }
      return .float(pow(Double(base), Double(exponent)))
    }
    if base == 0 || base == 1 || exponent == 0 { return .int(exponent == 0 ? 1 : base) }
    if base == -1 { return .int(exponent.isMultiple(of: 2) ? 1 : -1) }
    guard exponent < 64 else { throw error("an integer leaves 64 bits") }
    var result = (partialValue: 1, overflow: false)
    for _ in 0..<exponent where !result.overflow {
      result = result.partialValue.multipliedReportingOverflow(by: base)
    }
    return try exact(result)
  }

  private func floats(
    _ operation: TemplateExpression.Arithmetic, _ a: Double, _ b: Double
  ) throws(ChatTemplateError) -> TemplateValue {
    switch operation {
    case .add: return .float(a + b)
    case .subtract: return .float(a - b)
    case .multiply: return .float(a * b)
    case .divide:
      guard b != 0 else { throw error("division by zero") }
      return .float(a / b)
    case .floorDivide, .remainder:
      guard b != 0 else { throw error("division by zero") }
      var rest = fmod(a, b)
      var quotient = (a - rest) / b
      if rest != 0 {
        if (b < 0) != (rest < 0) {
          rest += b
          quotient -= 1
        }
      } else {
        rest = Double(signOf: b, magnitudeOf: 0)
      }
      if operation == .remainder { return .float(rest) }
      guard quotient != 0 else { return .float(Double(signOf: a / b, magnitudeOf: 0)) }
      let floor = quotient.rounded(.down)
      return .float(quotient - floor > 0.5 ? floor + 1 : floor)
    case .power:
      guard a != 0 || b >= 0 else { throw error("division by zero") }
      let result = pow(a, b)
      guard result.isFinite || !a.isFinite || !b.isFinite else {
        throw error("a power is outside the range of a float")
      }
      return .float(result)
    }
  }

  func negated(_ value: TemplateValue) throws(ChatTemplateError) -> TemplateValue {
    if case .float(let number) = value { return .float(-number) }
    guard let integer = value.integer else { throw error("'-' does not take \(value.typeName)") }
    return try exact(Int(0).subtractingReportingOverflow(integer))
  }

  func positive(_ value: TemplateValue) throws(ChatTemplateError) -> TemplateValue {
    if case .float = value { return value }
    guard let integer = value.integer else { throw error("'+' does not take \(value.typeName)") }
    return .int(integer)
  }
}
