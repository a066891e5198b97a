/// The settings of `tojson`, which transformers passes to Python's `json.dumps`.
struct TemplateJSONStyle {
  var indent: String?
  var itemSeparator = ", "
  var keySeparator = ": "
  var escapesNonASCII = false
  var sortsKeys = false
}

extension TemplateInterpreter {
  /// `json.dumps(x)`: not escaped for HTML.
  func json(
    _ value: TemplateValue, _ style: TemplateJSONStyle
  ) throws(ChatTemplateError) -> String {
    var text = ""
    try writeJSON(value, style, level: 0, into: &text)
    return text
  }

  private func writeJSON(
    _ value: TemplateValue, _ style: TemplateJSONStyle, level: Int, into text: inout String
  ) throws(ChatTemplateError) {
    try charge()
    try enter()
    defer { leave() }
    guard text.utf8.count <= limits.outputBytes else {
      throw .tooMuchOutput(line: line, limit: limits.outputBytes)
    }
    switch value {
    case .none, .bool, .int, .float: text += try scalar(value)
    case .string(let value): try quote(value, style, into: &text)
    case .list(let items), .tuple(let items):
      try writeJSON(items.values.map { (nil, $0) }, "[", "]", style, level: level, into: &text)
    case .dictionary(let dictionary):
      var members: [(TemplateValue?, TemplateValue)] = []
      var pairs = zip(dictionary.keys, dictionary.values).map { (key: $0, value: $1) }
      if style.sortsKeys { pairs = try sorted(pairs, reversed: false) }
      for pair in pairs {
        if case .string = pair.key {
          members.append(pair)
        } else {
          members.append((.string(try scalar(pair.key)), pair.value))
        }
      }
      try writeJSON(members, "{", "}", style, level: level, into: &text)
    default: throw error("a \(value.typeName) has no JSON form")
    }
  }

  private func scalar(_ value: TemplateValue) throws(ChatTemplateError) -> String {
    switch value {
    case .none: return "null"
    case .bool(let value): return value ? "true" : "false"
    case .int(let value): return "\(value)"
    case .float(let value):
      if value.isFinite { return Self.digits(of: value) }
      return value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity"
    default: throw error("a \(value.typeName) cannot be a key in JSON")
    }
  }

  private func writeJSON(
    _ members: [(TemplateValue?, TemplateValue)], _ open: String, _ close: String,
    _ style: TemplateJSONStyle, level: Int, into text: inout String
  ) throws(ChatTemplateError) {
    text += open
    guard !members.isEmpty else {
      text += close
      return
    }
    func newLine(_ level: Int) throws(ChatTemplateError) {
      guard let indent = style.indent else { return }
      let width = indent.utf8.count * level
      try charge(width / 64)
      guard width <= limits.outputBytes - min(text.utf8.count, limits.outputBytes) else {
        throw .tooMuchOutput(line: line, limit: limits.outputBytes)
      }
      text += "\n" + String(repeating: indent, count: level)
    }
    for (index, member) in members.enumerated() {
      if index > 0 { text += style.itemSeparator }
      try newLine(level + 1)
      if case .string(let key)? = member.0 {
        try quote(key, style, into: &text)
        text += style.keySeparator
      }
      try writeJSON(member.1, style, level: level + 1, into: &text)
    }
    try newLine(level)
    text += close
  }

  private func quote(
    _ value: String, _ style: TemplateJSONStyle, into text: inout String
  ) throws(ChatTemplateError) {
    try charge(value)
    text += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case "\u{8}": text += "\\b"
      case "\u{C}": text += "\\f"
      case let scalar where scalar.value < 0x20:
        text += "\\u" + Self.hex(scalar.value, width: 4)
      case let scalar where style.escapesNonASCII && scalar.value > 0x7E && scalar.value != 0x7F:
        for unit in String(scalar).utf16 { text += "\\u" + Self.hex(UInt32(unit), width: 4) }
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }
}
