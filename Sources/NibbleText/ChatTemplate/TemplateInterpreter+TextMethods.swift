extension TemplateInterpreter {
  /// The methods of `str`.
  func call(
    _ name: String, of receiver: String, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    try charge(receiver)
    for case .string(let argument) in arguments.positional { try charge(argument) }
    switch name {
    case "strip", "lstrip", "rstrip":
      let set = try bind(arguments, to: ["chars"], of: name)[0]
      var characters: String?
      if let set, !set.isNone { characters = try text(set, of: name) }
      return .string(
        receiver.stripped(of: characters, left: name != "rstrip", right: name != "lstrip"))
    case "startswith", "endswith": return .bool(try affix(name, receiver, arguments))
    case "removeprefix", "removesuffix": return try removeAffix(name, receiver, arguments)
    case "split", "rsplit": return try split(name, receiver, arguments)
    case "splitlines":
      let keeps = try bind(arguments, to: ["keepends"], of: name)[0]?.isTrue ?? false
      let lines = receiver.pythonLines(keepEnds: keeps)
      try charge(lines.count)
      return try list(lines.map { .string($0) })
    case "partition", "rpartition": return try partition(name, receiver, arguments)
    case "replace":
      let bound = try bind(arguments, to: ["old", "new", "count"], required: 2, of: name)
      return try replace(
        receiver, try text(bound[0], of: name), try text(bound[1], of: name),
        limit: try integer(bound[2], of: name) ?? -1)
    case "join":
      let bound = try bind(arguments, to: ["iterable"], required: 1, of: name)
      var parts: [String] = []
      for part in try elements(of: bound[0] ?? .none) { parts.append(try text(part, of: name)) }
      return try join(parts, receiver)
    case "find", "rfind", "index", "count": return try find(name, receiver, arguments)
    default:
      _ = try bind(arguments, to: [], of: name)
      return try convert(name, receiver)
    }
  }

  private func convert(_ name: String, _ text: String) throws(ChatTemplateError) -> TemplateValue {
    let scalars = text.unicodeScalars
    func all(_ test: (Unicode.Scalar) -> Bool) -> TemplateValue {
      .bool(!scalars.isEmpty && scalars.allSatisfy(test))
    }
    switch name {
    case "upper": return try self.text(text.uppercased())
    case "lower", "casefold": return try self.text(text.lowercased())
    case "capitalize": return try self.text(text.pythonCapitalized)
    case "title": return try self.text(text.pythonTitle)
    case "swapcase":
      return try self.text(
        scalars.map {
          $0.properties.isUppercase
            ? $0.properties.lowercaseMapping : $0.properties.uppercaseMapping
        }.joined())
    case "isspace": return all { $0.isPythonSpace }
    case "isdigit":
      return all {
        $0.properties.numericType == .decimal || $0.properties.numericType == .digit
      }
    case "isnumeric": return all { $0.properties.numericType != nil }
    case "isalpha": return all { Self.isLetter($0) }
    case "isalnum": return all { Self.isLetter($0) || $0.properties.numericType != nil }
    case "isascii": return .bool(scalars.allSatisfy(\.isASCII))
    case "isidentifier":
      return .bool(
        scalars.first?.isNameStart == true
          && scalars.allSatisfy { $0.isNameStart || $0.properties.numericType == .decimal })
    case "islower": return .bool(Self.isLower(text))
    case "isupper": return .bool(Self.isUpper(text))
    default: throw .unsupported(line: line, "the method '\(name)' of str")
    }
  }

  private static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }

  static func isLower(_ text: String) -> Bool {
    let scalars = text.unicodeScalars
    return scalars.contains { $0.properties.isLowercase }
      && !scalars.contains {
        $0.properties.isUppercase || $0.properties.generalCategory == .titlecaseLetter
      }
  }

  static func isUpper(_ text: String) -> Bool {
    let scalars = text.unicodeScalars
    return scalars.contains { $0.properties.isUppercase }
      && !scalars.contains {
        $0.properties.isLowercase || $0.properties.generalCategory == .titlecaseLetter
      }
  }

  private func affix(
    _ name: String, _ receiver: String, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> Bool {
    let bound = try bind(arguments, to: ["affix"], required: 1, of: name)
    var candidates = [bound[0] ?? .none]
    if case .tuple(let items) = candidates[0] { candidates = items.values }
    for candidate in candidates {
      if Self.has(name, receiver, try text(candidate, of: name)) { return true }
    }
    return false
  }

  private static func has(_ name: String, _ text: String, _ affix: String) -> Bool {
    name == "startswith" || name == "removeprefix"
      ? text.utf8.starts(with: affix.utf8)
      : text.utf8.count >= affix.utf8.count
        && text.utf8.suffix(affix.utf8.count).elementsEqual(affix.utf8)
  }

  private func removeAffix(
    _ name: String, _ receiver: String, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["affix"], required: 1, of: name)
    let affix = try text(bound[0], of: name)
    guard Self.has(name, receiver, affix) else { return .string(receiver) }
    let utf8 = receiver.utf8
    let rest =
      name == "removeprefix"
      ? utf8.dropFirst(affix.utf8.count) : utf8.dropLast(affix.utf8.count)
    return .string(String(Substring(rest)))
  }

  private func split(
    _ name: String, _ receiver: String, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["sep", "maxsplit"], of: name)
    let limit = try integer(bound[1], of: name) ?? -1
    try charge(receiver.utf8.count / 4)
    var separator: String?
    if let given = bound[0], !given.isNone { separator = try text(given, of: name) }
    let parts: [String]
    if let separator {
      guard !separator.isEmpty else { throw error("'\(name)' needs a separator that is not empty") }
      parts = Self.cut(receiver, at: separator, limit: limit, fromRight: name == "rsplit")
    } else {
      parts = receiver.splitOnSpace(limit: limit, fromRight: name == "rsplit")
    }
    return try list(parts.map { .string($0) })
  }

  private static func cut(
    _ text: String, at separator: String, limit: Int, fromRight: Bool
  ) -> [String] {
    var bytes = Array(text.utf8)
    // Searching backwards is searching the reversed bytes for the reversed separator.
    if fromRight { bytes.reverse() }
    let search =
      fromRight ? TextSearch(bytes: separator.utf8.reversed()) : TextSearch(separator)
    var parts: [[UInt8]] = []
    var from = 0
    for start in search.all(in: bytes, limit: limit) {
      parts.append(Array(bytes[from..<start]))
      from = start + search.needle.count
    }
    parts.append(Array(bytes[from...]))
    return fromRight
      ? parts.reversed().map { String(decoding: $0.reversed(), as: UTF8.self) }
      : parts.map { String(decoding: $0, as: UTF8.self) }
  }

  private func partition(
    _ name: String, _ receiver: String, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["sep"], required: 1, of: name)
    let separator = try text(bound[0], of: name)
    guard !separator.isEmpty else { throw error("'\(name)' needs a separator that is not empty") }
    let fromRight = name == "rpartition"
    let parts = Self.cut(receiver, at: separator, limit: 1, fromRight: fromRight)
    let found = parts.count == 2
    let missing = fromRight ? ["", "", receiver] : [receiver, "", ""]
    let three = found ? [parts[0], separator, parts[1]] : missing
    return .tuple(try items(three.map { .string($0) }))
  }

  func replace(
    _ receiver: String, _ old: String, _ new: String, limit: Int
  ) throws(ChatTemplateError) -> TemplateValue {
    try charge(receiver)
    guard !old.isEmpty else {
      return try join(try interleaved(receiver, limit: limit), new)
    }
    return try join(Self.cut(receiver, at: old, limit: limit, fromRight: false), new)
  }

  /// The parts between which an empty text stands: before each scalar and at the end.
  private func interleaved(_ text: String, limit: Int) throws(ChatTemplateError) -> [String] {
    try charge(text.utf8.count / 4)
    let scalars = Array(text.unicodeScalars)
    let cuts = limit < 0 ? scalars.count + 1 : min(limit, scalars.count + 1)
    guard cuts > 0 else { return [text] }
    var parts = [""]
    for index in 0..<(cuts - 1) { parts.append(String(scalars[index])) }
    parts.append(String(scalars: scalars[(cuts - 1)...]))
    return parts
  }

  func join(_ parts: [String], _ separator: String) throws(ChatTemplateError) -> TemplateValue {
    var bytes = 0
    for (index, part) in parts.enumerated() {
      bytes += part.utf8.count + (index > 0 ? separator.utf8.count : 0)
      guard bytes <= limits.outputBytes else {
        throw .tooMuchOutput(line: line, limit: limits.outputBytes)
      }
    }
    try charge(parts.count / 4)
    return try text(parts.joined(separator: separator))
  }

  private func find(
    _ name: String, _ receiver: String, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["sub"], required: 1, of: name)
    let part = try text(bound[0], of: name)
    let bytes = Array(receiver.utf8)
    if name == "count" {
      guard !part.isEmpty else { return .int(receiver.unicodeScalars.count + 1) }
      return .int(TextSearch(part).all(in: bytes).count)
    }
    let start: Int?
    if name == "rfind" {
      start = TextSearch(bytes: part.utf8.reversed()).first(in: bytes.reversed())
        .map { bytes.count - $0 - part.utf8.count }
    } else {
      start = TextSearch(part).first(in: bytes)
    }
    guard let start else {
      if name == "index" { throw error("'index' finds no such text") }
      return .int(-1)
    }
    return .int(bytes[..<start].count { $0 & 0xC0 != 0x80 })
  }
}
