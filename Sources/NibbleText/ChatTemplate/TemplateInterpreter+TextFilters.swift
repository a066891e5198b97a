extension TemplateInterpreter {
  /// The filters that take any value as text.
  func textFilter(
    _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    switch name {
    case "trim":
      let characters = try bind(arguments, to: ["chars"], of: name)[0]
      let text = try string(value)
      if let characters, case .none = characters { return .string(text.stripped()) }
      return .string(
        text.stripped(of: characters == nil ? nil : try self.text(characters, of: name)))
    case "replace":
      let bound = try bind(arguments, to: ["old", "new", "count"], required: 2, of: name)
      let limit =
        if let count = bound[2], case .none = count { -1 } else {
          try integer(bound[2], of: name) ?? -1
        }
      return try replace(
        try string(value), try string(bound[0] ?? .none), try string(bound[1] ?? .none),
        limit: limit)
    case "indent": return try indent(value, arguments)
    case "format":
      guard arguments.named.isEmpty else {
        throw .unsupported(line: line, "'format' with named arguments")
      }
      return try format(try string(value), .tuple(try items(arguments.positional)))
    case "upper", "lower", "title", "capitalize", "string", "safe", "escape", "e", "forceescape",
      "wordcount":
      _ = try bind(arguments, to: [], of: name)
      return try convert(name, try string(value))
    default: throw .unsupported(line: line, "the filter '\(name)'")
    }
  }

  private func convert(_ name: String, _ text: String) throws(ChatTemplateError) -> TemplateValue {
    try charge(text)
    switch name {
    case "upper": return try self.text(text.uppercased())
    case "lower": return try self.text(text.lowercased())
    case "capitalize": return try self.text(text.pythonCapitalized)
    case "title": return try self.text(Self.title(text))
    case "wordcount": return .int(Self.words(text))
    case "string", "safe": return .string(text)
    default:
      var escaped = ""
      for scalar in text.unicodeScalars {
        switch scalar {
        case "&": escaped += "&amp;"
        case "<": escaped += "&lt;"
        case ">": escaped += "&gt;"
        case "'": escaped += "&#39;"
        case "\"": escaped += "&#34;"
        default: escaped.unicodeScalars.append(scalar)
        }
      }
      return try self.text(escaped)
    }
  }

  /// Jinja's own title case: a word starts after white space, a dash or an opening bracket.
  private static func title(_ text: String) -> String {
    var result = ""
    var startsWord = true
    for scalar in text.unicodeScalars {
      let properties = scalar.properties
      result += startsWord ? properties.uppercaseMapping : properties.lowercaseMapping
      startsWord = scalar.isPythonSpace || "-({[<".unicodeScalars.contains(scalar)
    }
    return result
  }

  private static func words(_ text: String) -> Int {
    var (count, inside) = (0, false)
    for scalar in text.unicodeScalars {
      let isWord = scalar.isNameStart || scalar.properties.numericType != nil
      if isWord, !inside { count += 1 }
      inside = isWord
    }
    return count
  }

  private func indent(
    _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["width", "first", "blank"], of: "indent")
    var indention = "    "
    if case .string(let text)? = bound[0] {
      indention = text
    } else if let width = try integer(bound[0], of: "indent") {
      guard width <= limits.outputBytes else {
        throw .tooMuchOutput(line: line, limit: limits.outputBytes)
      }
      try charge(max(width, 0) / 64)
      indention = String(repeating: " ", count: max(width, 0))
    }
    let blank = bound[2]?.isTrue ?? false
    var lines = (try text(value, of: "indent") + "\n").pythonLines()
    let first = (bound[1]?.isTrue ?? false) ? indention : ""
    let width = indention.utf8.count.multipliedReportingOverflow(by: lines.count)
    guard !width.overflow, width.partialValue <= limits.outputBytes else {
      throw .tooMuchOutput(line: line, limit: limits.outputBytes)
    }
    for index in lines.indices.dropFirst() where blank || !lines[index].isEmpty {
      lines[index] = indention + lines[index]
    }
    return try join([first + lines.joined(separator: "\n")], "")
  }

  /// `format % arguments`, with `%s`, `%r`, `%d`, `%i` and `%%`.
  func format(
    _ format: String, _ arguments: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue {
    var values = [arguments]
    if case .tuple(let items) = arguments { values = items.values }
    var (parts, literal) = ([String](), String.UnicodeScalarView())
    var next = 0
    var scalars = format.unicodeScalars.makeIterator()
    while let scalar = scalars.next() {
      guard scalar == "%" else {
        literal.append(scalar)
        continue
      }
      let mark = scalars.next()
      if mark == "%" {
        literal.append("%")
        continue
      }
      guard let mark, "srdi".unicodeScalars.contains(mark) else {
        throw .unsupported(line: line, "the format '%\(mark.map { String($0) } ?? "")'")
      }
      guard next < values.count else { throw error("a format has too few values") }
      let value = values[next]
      next += 1
      try charge()
      parts.append(String(literal))
      literal = String.UnicodeScalarView()
      parts.append(try written(value, as: mark))
    }
    parts.append(String(literal))
    guard next == values.count || arguments.mayGoUnused else {
      throw error("a format has too many values")
    }
    return try join(parts, "")
  }

  private func written(
    _ value: TemplateValue, as mark: Unicode.Scalar
  ) throws(ChatTemplateError) -> String {
    if mark == "s" { return try string(value) }
    if mark == "r" {
      let listed = try string(.list(try items([value])))
      return String(listed.dropFirst().dropLast())
    }
    if case .float(let number) = value, let integer = Int(exactly: number.rounded(.towardZero)) {
      return "\(integer)"
    }
    guard let integer = value.integer else {
      throw error("'%d' does not take \(value.typeName)")
    }
    return "\(integer)"
  }
}

extension TemplateValue {
  /// Whether `format % value` accepts a format that never uses it.
  fileprivate var mayGoUnused: Bool {
    switch self {
    case .list, .dictionary, .range, .undefined: true
    default: false
    }
  }
}
