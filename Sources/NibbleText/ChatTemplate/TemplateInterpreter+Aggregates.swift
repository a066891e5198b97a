import NibbleFormats

extension TemplateInterpreter {
  /// The filters that sort elements or reduce them to one value.
  func aggregate(
    _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    switch name {
    case "join": return try joinFilter(value, arguments)
    case "sum": return try sum(value, arguments)
    case "dictsort": return try dictionarySort(value, arguments)
    case "sort":
      let bound = try bind(
        arguments, to: ["reverse", "case_sensitive", "attribute"], of: name)
      let keyed = try keyed(value, by: bound[2], caseSensitive: bound[1], severalPaths: true)
      return try list(try sorted(keyed, reversed: bound[0]?.isTrue ?? false).map(\.value))
    default:
      let bound = try bind(arguments, to: ["case_sensitive", "attribute"], of: name)
      let keyed = try keyed(value, by: bound[1], caseSensitive: bound[0], severalPaths: false)
      return name == "unique" ? try unique(keyed) : try extreme(name, keyed)
    }
  }

  /// Each element with the key it is compared by: itself or a member, in lower case unless asked.
  private func keyed(
    _ value: TemplateValue, by path: TemplateValue?, caseSensitive: TemplateValue?,
    severalPaths: Bool
  ) throws(ChatTemplateError) -> [(key: TemplateValue, value: TemplateValue)] {
    let keepsCase = caseSensitive?.isTrue ?? false
    var paths: [TemplateValue] = []
    switch path {
    case nil, TemplateValue.none?: break
    case .string(let text)? where severalPaths:
      paths = text.split(separator: ",", omittingEmptySubsequences: false)
        .map { .string(String($0)) }
    case let path?: paths = [path]
    }
    func folded(_ value: TemplateValue) throws(ChatTemplateError) -> TemplateValue {
      guard !keepsCase, case .string(let text) = value else { return value }
      return try self.text(text.lowercased())
    }
    var result: [(key: TemplateValue, value: TemplateValue)] = []
    for element in try elements(of: value) {
      try charge()
      var keys: [TemplateValue] = []
      for path in paths { keys.append(try folded(try member(path, of: element))) }
      let key =
        switch keys.count {
        case 0: try folded(element)
        case 1: keys[0]
        default: TemplateValue.tuple(try items(keys))
        }
      result.append((key, element))
    }
    return result
  }

  private func unique(
    _ keyed: [(key: TemplateValue, value: TemplateValue)]
  ) throws(ChatTemplateError) -> TemplateValue {
    var seen: Set<TemplateDictionary.Key> = []
    var kept: [TemplateValue] = []
    for element in keyed where seen.insert(try key(element.key)).inserted {
      kept.append(element.value)
    }
    return try generator(kept)
  }

  private func extreme(
    _ name: String, _ keyed: [(key: TemplateValue, value: TemplateValue)]
  ) throws(ChatTemplateError) -> TemplateValue {
    guard var best = keyed.first else {
      return .undefined("'\(name)' of nothing")
    }
    for element in keyed.dropFirst() {
      let replaces =
        try name == "min" ? isLess(element.key, best.key) : isLess(best.key, element.key)
      if replaces { best = element }
    }
    return best.value
  }

  private func sum(
    _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["attribute", "start"], of: "sum")
    var total = bound[1] ?? .int(0)
    if case .string = total { throw error("'sum' does not add texts") }
    for element in try elements(of: value) {
      var part = element
      if let path = bound[0], !path.isNone {
        part = try member(path, of: element)
      }
      total = try apply(.add, total, part)
    }
    return total
  }

  private func joinFilter(
    _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["d", "attribute"], of: "join")
    var parts: [String] = []
    for element in try elements(of: value) {
      try charge()
      let part = try bound[1].map { path throws(ChatTemplateError) in
        try member(path, of: element)
      }
      parts.append(try string(part ?? element))
    }
    return try join(parts, try string(bound[0] ?? .string("")))
  }

  private func dictionarySort(
    _ value: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    let bound = try bind(arguments, to: ["case_sensitive", "by", "reverse"], of: "dictsort")
    guard case .dictionary(let dictionary) = value else {
      throw error("'dictsort' needs a mapping, not a \(value.typeName)")
    }
    let by = try bound[1].map { by throws(ChatTemplateError) in try text(by, of: "dictsort") }
    guard ["key", "value"].contains(by ?? "key") else {
      throw error("'dictsort' sorts by 'key' or 'value'")
    }
    let keyed = try keyed(
      try list(try pairs(of: dictionary)), by: .int(by == "value" ? 1 : 0),
      caseSensitive: bound[0], severalPaths: false)
    return try list(try sorted(keyed, reversed: bound[2]?.isTrue ?? false).map(\.value))
  }
}
