extension TemplateInterpreter {
  private static let dictionaryMethods: Set = ["get", "items", "keys", "values", "copy"]
  private static let listMethods: Set = ["index", "count", "copy"]
  private static let tupleMethods: Set = ["index", "count"]
  static let textMethods: Set = [
    "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii",
    "isdigit", "isidentifier", "islower", "isnumeric", "isspace", "isupper", "join", "lower",
    "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rpartition",
    "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title",
    "upper", "casefold",
  ]
  private static let unsupportedTextMethods: Set = [
    "center", "encode", "expandtabs", "format", "format_map", "isdecimal", "isprintable",
    "istitle", "ljust", "maketrans", "rindex", "rjust", "translate", "zfill",
  ]
  private static let changingMethods: Set = [
    "append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault",
    "sort", "update",
  ]

  /// `value.name`: a Python attribute first, then the member of that name.
  func attribute(
    _ name: String, of value: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue {
    if let attribute = try pythonAttribute(name, of: value) { return attribute }
    if case .dictionary(let dictionary) = value, let member = dictionary[name] { return member }
    return .undefined("\(value.typeName) has no attribute '\(name)'")
  }

  private func pythonAttribute(
    _ name: String, of value: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue? {
    if name.utf8.starts(with: "__".utf8) {
      throw error("'\(name)' is closed to templates")
    }
    switch value {
    case .undefined(let what): throw error(what)
    case .namespace(let namespace): return namespace[name]
    case .loop(let loop): return try attribute(name, of: loop)
    case .dictionary:
      if Self.dictionaryMethods.contains(name) { return .method(value, name) }
      return Self.changingMethods.contains(name) ? Self.refused(name, value) : nil
    case .list:
      if Self.listMethods.contains(name) { return .method(value, name) }
      return Self.changingMethods.contains(name) ? Self.refused(name, value) : nil
    case .tuple: return Self.tupleMethods.contains(name) ? .method(value, name) : nil
    case .string:
      if Self.unsupportedTextMethods.contains(name) {
        throw .unsupported(line: line, "the method '\(name)' of str")
      }
      return Self.textMethods.contains(name) ? .method(value, name) : nil
    case .macro(let macro):
      return name == "name" ? .string(macro.definition.name) : nil
    default: return nil
    }
  }

  private static func refused(_ name: String, _ value: TemplateValue) -> TemplateValue {
    .undefined("'\(name)' would change a \(value.typeName), which a chat template may not")
  }

  private func attribute(
    _ name: String, of loop: TemplateLoopState
  ) throws(ChatTemplateError) -> TemplateValue? {
    let index = loop.index
    switch name {
    case "index": return .int(index + 1)
    case "index0": return .int(index)
    case "revindex": return .int(loop.count - index)
    case "revindex0": return .int(loop.count - index - 1)
    case "first": return .bool(index == 0)
    case "last": return .bool(index == loop.count - 1)
    case "length": return .int(loop.count)
    case "depth": return .int(1)
    case "depth0": return .int(0)
    case "previtem", "nextitem":
      let other = name == "previtem" ? index - 1 : index + 1
      guard loop.items.indices.contains(other) else {
        return .undefined("there is no loop.\(name)")
      }
      return loop.items[other]
    case "cycle", "changed": return .method(.loop(loop), name)
    default: return nil
    }
  }

  /// `value[index]`: the element first, then a Python attribute of that name.
  func item(
    _ index: TemplateValue, of value: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue {
    switch value {
    case .undefined(let what): throw error(what)
    case .dictionary(let dictionary):
      switch index {
      case .list, .dictionary: break
      default: if let member = dictionary[try key(index)] { return member }
      }
    case .list(let items), .tuple(let items), .range(let items):
      if let position = index.integer {
        let count = items.values.count
        let wrapped = position < 0 && position >= -count ? position + count : position
        if items.values.indices.contains(wrapped) { return items.values[wrapped] }
      }
    case .string(let text):
      if let position = index.integer {
        try charge(text)
        let scalars = text.unicodeScalars
        let start = position < 0 ? scalars.endIndex : scalars.startIndex
        guard position > Int.min / 2, position < Int.max / 2,
          let found = scalars.index(
            start, offsetBy: position,
            limitedBy: position < 0 ? scalars.startIndex : scalars.endIndex),
          found < scalars.endIndex
        else { return .undefined("a str has no element \(position)") }
        return .string(String(scalars[found]))
      }
    default: break
    }
    if case .string(let name) = index, let attribute = try pythonAttribute(name, of: value) {
      return attribute
    }
    return .undefined("a \(value.typeName) has no element \(try string(index))")
  }

  /// `value[start:stop:step]` with Python's rules for indices outside the value.
  func slice(
    _ value: TemplateValue, _ start: Int?, _ stop: Int?, _ step: Int?
  ) throws(ChatTemplateError) -> TemplateValue {
    let step = step ?? 1
    guard step != 0 else { throw error("a slice needs a step other than zero") }
    func picked<Element>(_ elements: [Element]) -> [Element] {
      let count = elements.count
      let (low, high) = step > 0 ? (0, count) : (-1, count - 1)
      func place(_ bound: Int?, _ missing: Int) -> Int {
        guard let bound else { return missing }
        return min(max(bound < 0 ? bound + count : bound, low), high)
      }
      let (first, last) = (place(start, step > 0 ? 0 : high), place(stop, step > 0 ? high : low))
      return stride(from: first, to: last, by: step).map { elements[$0] }
    }
    switch value {
    case .undefined(let what): throw error(what)
    case .string(let text):
      try charge(text)
      return .string(String(scalars: picked(Array(text.unicodeScalars))))
    case .list(let items): return try list(picked(items.values))
    case .tuple(let items): return .tuple(try self.items(picked(items.values)))
    case .range(let items): return .range(try self.items(picked(items.values)))
    default: throw error("a \(value.typeName) cannot be sliced")
    }
  }

  /// The elements that a for loop iterates over.
  func elements(of value: TemplateValue) throws(ChatTemplateError) -> [TemplateValue] {
    let values: [TemplateValue]
    switch value {
    case .undefined: values = []
    case .string(let text):
      try charge(text.utf8.count / 4)
      values = text.unicodeScalars.map { .string(String($0)) }
    case .list(let items), .tuple(let items), .range(let items): values = items.values
    case .view(let view): values = view.items.values
    case .dictionary(let dictionary): values = dictionary.keys
    case .generator(let generator): values = generator.drain()
    default: throw error("a \(value.typeName) cannot be walked through")
    }
    try charge(values.count / 4)
    return values
  }
}
