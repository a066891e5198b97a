import NibbleFormats

extension TemplateInterpreter {
  /// `value|name(arguments)`.
  func filter(
    _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    try charge()
    if case .string(let text) = value { try charge(text) }
    switch name {
    case "default", "d":
      let bound = try bind(arguments, to: ["default_value", "boolean"], of: name)
      let replaces = value.isUndefined || (bound[1]?.isTrue == true && !value.isTrue)
      return replaces ? bound[0] ?? .string("") : value
    case "tojson": return try text(try json(value, try jsonStyle(arguments)))
    case "length", "count":
      _ = try bind(arguments, to: [], of: name)
      return .int(try length(of: value))
    case "map": return try map(value, arguments)
    case "select", "reject", "selectattr", "rejectattr":
      return try select(name, value, arguments)
    case "sort", "unique", "min", "max", "sum", "dictsort", "join":
      return try aggregate(name, value, arguments)
    case "first", "last", "list", "items", "reverse", "batch":
      return try sequenceFilter(name, value, arguments)
    case "int", "float", "abs", "round": return try numberFilter(name, value, arguments)
    default: return try textFilter(name, value, arguments)
    }
  }

  private func jsonStyle(
    _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateJSONStyle {
    let bound = try bind(
      arguments, to: ["ensure_ascii", "indent", "separators", "sort_keys"], of: "tojson")
    var style = TemplateJSONStyle()
    style.escapesNonASCII = bound[0]?.isTrue ?? false
    style.sortsKeys = bound[3]?.isTrue ?? false
    switch bound[1] {
    case nil, TemplateValue.none?: break
    case .string(let text)?: style.indent = text
    case let value?:
      let width = max(try integer(value, of: "tojson") ?? 0, 0)
      guard width <= limits.outputBytes else {
        throw .tooMuchOutput(line: line, limit: limits.outputBytes)
      }
      style.indent = String(repeating: " ", count: width)
    }
    if style.indent != nil { style.itemSeparator = "," }
    if let separators = bound[2], !separators.isNone {
      let pair = try elements(of: separators)
      guard pair.count == 2 else { throw error("'separators' needs two texts") }
      style.itemSeparator = try text(pair[0], of: "separators")
      style.keySeparator = try text(pair[1], of: "separators")
    }
    return style
  }

  func length(of value: TemplateValue) throws(ChatTemplateError) -> Int {
    switch value {
    case .undefined: return 0
    case .string(let text): return text.unicodeScalars.count
    case .list(let items), .tuple(let items), .range(let items): return items.values.count
    case .view(let view): return view.items.values.count
    case .dictionary(let dictionary): return dictionary.count
    case .loop(let loop): return loop.count
    default: throw error("a \(value.typeName) has no length")
    }
  }

  private func sequenceFilter(
    _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    if name == "batch" { return try batch(value, arguments) }
    _ = try bind(arguments, to: [], of: name)
    switch name {
    case "first":
      if case .generator(let generator) = value {
        return generator.next() ?? .undefined("there is no first element")
      }
      return try elements(of: value).first ?? .undefined("there is no first element")
    case "last":
      switch value {
      case .generator, .undefined: throw error("a \(value.typeName) cannot be reversed")
      default: return try elements(of: value).last ?? .undefined("there is no last element")
      }
    case "list": return try list(try elements(of: value))
    case "items":
      if value.isUndefined { return try generator([]) }
      guard case .dictionary(let dictionary) = value else {
        throw error("'items' needs a mapping, not a \(value.typeName)")
      }
      return try generator(try pairs(of: dictionary))
    default:
      if case .string(let text) = value {
        return .string(String(scalars: text.unicodeScalars.reversed()))
      }
      return try generator(try elements(of: value).reversed())
    }
  }

  private func batch(
    _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["linecount", "fill_with"], required: 1, of: "batch")
    guard let size = try integer(bound[0], of: "batch"), size > 0 else {
      throw error("'batch' needs a size above zero")
    }
    var batches: [TemplateValue] = []
    let values = try elements(of: value)
    for start in stride(from: 0, to: values.count, by: size) {
      var part = Array(values[start..<(values.count - start > size ? start + size : values.count)])
      if let fill = bound[1], part.count < size, !fill.isNone {
        try charge(size)
        part += Array(repeating: fill, count: size - part.count)
      }
      batches.append(try list(part))
    }
    return try generator(batches)
  }

  // MARK: attributes

  /// The value at a path such as `function.name` or `0`, found item first as Jinja does.
  func member(
    _ path: TemplateValue, of value: TemplateValue, else fallback: TemplateValue? = nil
  ) throws(ChatTemplateError) -> TemplateValue {
    guard case .string(let path) = path else {
      let found = try item(path, of: value)
      return found.isUndefined ? fallback ?? found : found
    }
    var value = value
    for part in path.split(separator: ".", omittingEmptySubsequences: false) {
      let index = part.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(part) : nil
      value = try item(index.map { .int($0) } ?? .string(String(part)), of: value)
      if value.isUndefined, let fallback { value = fallback }
    }
    return value
  }

  private func map(
    _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    guard value.isTrue else { return try generator([]) }
    var results: [TemplateValue] = []
    if arguments.positional.isEmpty {
      let bound = try bind(arguments, to: ["attribute", "default"], required: 1, of: "map")
      for element in try elements(of: value) {
        results.append(try member(bound[0] ?? .none, of: element, else: bound[1]))
      }
    } else {
      let name = try text(arguments.positional[0], of: "map")
      var rest = arguments
      rest.positional.removeFirst()
      for element in try elements(of: value) { results.append(try filter(name, element, rest)) }
    }
    return try generator(results)
  }

  private func select(
    _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    var rest = arguments
    var path: TemplateValue?
    if name.hasSuffix("attr") {
      guard !rest.positional.isEmpty else { throw error("'\(name)' needs an attribute") }
      path = rest.positional.removeFirst()
    }
    var wanted: String?
    if !rest.positional.isEmpty { wanted = try text(rest.positional.removeFirst(), of: name) }
    var kept: [TemplateValue] = []
    guard value.isTrue else { return try generator([]) }
    for element in try elements(of: value) {
      try charge()
      let subject = try path.map { path throws(ChatTemplateError) in try member(path, of: element) }
      let passes =
        try wanted.map { wanted throws(ChatTemplateError) in
          try test(wanted, subject ?? element, rest)
        } ?? (subject ?? element).isTrue
      if passes == name.hasPrefix("select") { kept.append(element) }
    }
    return try generator(kept)
  }
}
