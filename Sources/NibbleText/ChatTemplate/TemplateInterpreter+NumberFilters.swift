import Foundation

extension TemplateInterpreter {
  func numberFilter(
    _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    if case .undefined(let what) = value { throw error(what) }
    switch name {
    case "int": return try toInteger(value, arguments)
    case "float":
      let fallback = try bind(arguments, to: ["default"], of: name)[0] ?? .float(0)
      if let number = value.number { return .float(number) }
      guard case .string(let text) = value, let number = Self.float(text) else { return fallback }
      return .float(number)
    case "abs":
      _ = try bind(arguments, to: [], of: name)
      if case .float(let number) = value { return .float(abs(number)) }
      guard let integer = value.integer else {
        throw error("'abs' does not take \(value.typeName)")
      }
      return integer < 0 ? try negated(.int(integer)) : .int(integer)
    default: return try round(value, arguments)
    }
  }

  private func toInteger(
    _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["default", "base"], of: "int")
    let base = try integer(bound[1], of: "int") ?? 10
    guard (2...36).contains(base) else { throw error("'int' needs a base of 2...36") }
    if let integer = value.integer { return .int(integer) }
    var number: Double?
    if case .float(let float) = value { number = float }
    if case .string(let text) = value {
      if let digits = Self.digits(text, base: base) {
        guard let integer = Int(digits, radix: base) else {
          throw error("an integer leaves 64 bits")
        }
        return .int(integer)
      }
      number = Self.float(text)
    }
    guard let number, number.isFinite else { return bound[0] ?? .int(0) }
    guard let integer = Int(exactly: number.rounded(.towardZero)) else {
      throw error("an integer leaves 64 bits")
    }
    return .int(integer)
  }

  /// The sign and digits of what Python's `int(text, base)` reads, without spaces, prefix and `_`.
  private static func digits(_ text: String, base: Int) -> String? {
    var rest = Substring(text.stripped())
    var sign = ""
    if let first = rest.first, first == "-" || first == "+" {
      sign = first == "-" ? "-" : ""
      rest.removeFirst()
    }
    let prefix = [16: "x", 8: "o", 2: "b"][base]
    if let prefix, rest.lowercased().hasPrefix("0" + prefix) {
      rest = rest.dropFirst(2)
      if rest.first == "_" { rest.removeFirst() }
    }
    let groups = rest.split(separator: "_", omittingEmptySubsequences: false)
    guard
      groups.allSatisfy({ group in
        !group.isEmpty
          && group.unicodeScalars.allSatisfy {
            $0.isASCII && (Character($0).hexValue36 ?? 99) < base
          }
      })
    else { return nil }
    return sign + groups.joined()
  }

  /// What Python's `float(text)` reads.
  private static func float(_ text: String) -> Double? {
    let stripped = text.stripped()
    let groups = stripped.split(separator: "_", omittingEmptySubsequences: false)
    for (left, right) in zip(groups, groups.dropFirst()) {
      guard left.last?.isWholeNumber == true, right.first?.isWholeNumber == true else {
        return nil
      }
    }
    let joined = groups.joined().lowercased()
    let unsigned = joined.first == "-" || joined.first == "+" ? joined.dropFirst() : joined[...]
    switch unsigned {
    case "inf", "infinity": return joined.first == "-" ? -.infinity : .infinity
    case "nan": return .nan
    default:
      guard joined.utf8.allSatisfy({ (0x30...0x39).contains($0) || "+-.e".utf8.contains($0) })
      else { return nil }
      return Double(joined) ?? Double(joined.hasSuffix(".") ? joined + "0" : "0" + joined)
    }
  }

  private func round(
    _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["precision", "method"], of: "round")
    let precision = try integer(bound[0], of: "round") ?? 0
    let method =
      try bound[1].map { value throws(ChatTemplateError) in try text(value, of: "round") }
      ?? "common"
    guard let number = value.number else { throw error("'round' does not take \(value.typeName)") }
    guard (0...300).contains(precision) else {
      throw .unsupported(line: line, "'round' to \(precision) places")
    }
    switch method {
    case "common":
      if let integer = value.integer { return .int(integer) }
      guard number.isFinite else { return .float(number) }
      return .float(Double(String(format: "%.\(precision)f", number)) ?? number)
    case "ceil", "floor":
      let scale = pow(10, Double(precision))
      let scaled = number * scale
      guard scaled.isFinite else { throw error("'round' leaves the range of a float") }
      return .float(scaled.rounded(method == "ceil" ? .up : .down) / scale)
    default: throw error("'round' has no method '\(method)'")
    }
  }
}

extension Character {
  /// The value as a digit of a base up to 36.
  fileprivate var hexValue36: Int? {
    guard let ascii = asciiValue else { return nil }
    switch ascii {
    case 0x30...0x39: return Int(ascii) - 0x30
    case 0x41...0x5A: return Int(ascii) - 0x41 + 10
    case 0x61...0x7A: return Int(ascii) - 0x61 + 10
    default: return nil
    }
  }
}
