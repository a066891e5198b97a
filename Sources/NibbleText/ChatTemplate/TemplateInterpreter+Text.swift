import NibbleFormats

extension TemplateInterpreter {
  /// Python's `str(x)`, which is also what `{{ x }}` writes.
  func string(_ value: TemplateValue) throws(ChatTemplateError) -> String {
    switch value {
    case .undefined: return ""
    case .string(let text): return text
    default:
      var text = ""
      try write(value, into: &text)
      return text
    }
  }

  private func append(_ part: String, to text: inout String) throws(ChatTemplateError) {
    try charge(part)
    guard part.utf8.count <= limits.outputBytes - text.utf8.count else {
      throw .tooMuchOutput(line: line, limit: limits.outputBytes)
    }
    text += part
  }

  /// Python's `repr(x)`.
  private func write(
    _ value: TemplateValue, into text: inout String
  ) throws(ChatTemplateError) {
    try enter()
    defer { leave() }
    switch value {
    case .undefined: try append("Undefined", to: &text)
    case .none: try append("None", to: &text)
    case .bool(let value): try append(value ? "True" : "False", to: &text)
    case .int(let value): try append("\(value)", to: &text)
    case .float(let value): try append(Self.digits(of: value), to: &text)
    case .string(let value): try append(Self.quoted(value), to: &text)
    case .list(let items): try write(items.values, between: "[", "]", into: &text)
    case .tuple(let items):
      try write(items.values, between: "(", items.values.count == 1 ? ",)" : ")", into: &text)
    case .view(let view):
      try write(view.items.values, between: view.kind + "([", "])", into: &text)
    case .dictionary(let dictionary):
      try write(Array(zip(dictionary.keys, dictionary.values)), into: &text)
    case .namespace(let namespace):
      try append("<Namespace ", to: &text)
      try write(
        namespace.order.map { (.string($0), namespace[$0] ?? .none) }, into: &text)
      try append(">", to: &text)
    case .loop(let loop): try append("<LoopContext \(loop.index + 1)/\(loop.count)>", to: &text)
    case .macro(let macro): try append("<Macro '\(macro.definition.name)'>", to: &text)
    case .range, .generator, .function, .method:
      throw .unsupported(line: line, "writing a \(value.typeName) as text")
    }
  }

  private func write(
    _ values: [TemplateValue], between open: String, _ close: String, into text: inout String
  ) throws(ChatTemplateError) {
    try append(open, to: &text)
    for (index, value) in values.enumerated() {
      if index > 0 { try append(", ", to: &text) }
      try write(value, into: &text)
    }
    try append(close, to: &text)
  }

  private func write(
    _ members: [(TemplateValue, TemplateValue)], into text: inout String
  ) throws(ChatTemplateError) {
    try append("{", to: &text)
    for (index, member) in members.enumerated() {
      if index > 0 { try append(", ", to: &text) }
      try write(member.0, into: &text)
      try append(": ", to: &text)
      try write(member.1, into: &text)
    }
    try append("}", to: &text)
  }

  /// Python's `repr` of a text: single quotes unless it holds one and no double quote.
  private static func quoted(_ value: String) -> String {
    let scalars = value.unicodeScalars
    let quote: Unicode.Scalar = scalars.contains("'") && !scalars.contains("\"") ? "\"" : "'"
    var text = String.UnicodeScalarView([quote])
    for scalar in scalars {
      switch scalar {
      case quote, "\\": text.append(contentsOf: ["\\", scalar])
      case "\n": text.append(contentsOf: "\\n".unicodeScalars)
      case "\r": text.append(contentsOf: "\\r".unicodeScalars)
      case "\t": text.append(contentsOf: "\\t".unicodeScalars)
      case let scalar where scalar.isPythonPrintable: text.append(scalar)
      default:
        let (mark, width) =
          scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
        text.append(contentsOf: "\\\(mark)\(hex(scalar.value, width: width))".unicodeScalars)
      }
    }
    text.append(quote)
    return String(text)
  }

  static func hex(_ value: UInt32, width: Int) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
  }

  /// Python's `repr` of a float: the shortest digits that round back, an exponent below 1e-4 and
  /// from 1e16 on.
  static func digits(of value: Double) -> String {
    guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
    guard value != 0 else { return value.sign == .minus ? "-0.0" : "0.0" }
    let parts = "\(value.magnitude)".split(separator: "e")
    let mantissa = parts[0].split(separator: ".", omittingEmptySubsequences: false)
    let fraction = mantissa.count > 1 ? String(mantissa[1]) : ""
    let written = String(mantissa[0]) + fraction
    let leading = written.utf8.prefix { $0 == 0x30 }.count
    var digits = String(written.dropFirst(leading))
    while digits.hasSuffix("0"), digits.utf8.count > 1 { digits.removeLast() }
    // The value is 0.DIGITS times ten to the power of `point`.
    let point = mantissa[0].utf8.count - leading + (parts.count > 1 ? Int(parts[1]) ?? 0 : 0)
    let sign = value < 0 ? "-" : ""
    let count = digits.utf8.count
    if point > 16 || point < -3 {
      let exponent = point - 1
      let tail = count > 1 ? "." + digits.dropFirst() : ""
      let power = "\(exponent.magnitude)"
      let padded = power.utf8.count < 2 ? "0" + power : power
      return "\(sign)\(digits.prefix(1))\(tail)e\(exponent < 0 ? "-" : "+")\(padded)"
    }
    if point <= 0 { return "\(sign)0.\(String(repeating: "0", count: -point))\(digits)" }
    if point >= count {
      return "\(sign)\(digits)\(String(repeating: "0", count: point - count)).0"
    }
    return "\(sign)\(digits.prefix(point)).\(digits.dropFirst(point))"
  }
}
