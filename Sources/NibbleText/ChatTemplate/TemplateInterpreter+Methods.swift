extension TemplateInterpreter {
  func call(
    _ name: String, of receiver: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    switch receiver {
    case .string(let text): return try call(name, of: text, arguments)
    case .dictionary(let dictionary): return try call(name, of: dictionary, arguments)
    case .list(let items), .tuple(let items):
      return try call(name, of: items, arguments, receiver)
    case .loop(let loop): return try call(name, of: loop, arguments)
    default: throw error("a \(receiver.typeName) has no method '\(name)'")
    }
  }

  private func call(
    _ name: String, of dictionary: TemplateDictionary, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    guard arguments.named.isEmpty else { throw error("'\(name)' takes no named arguments") }
    if name == "get" {
      let bound = try bind(arguments, to: ["key", "default"], required: 1, of: name)
      return dictionary[try key(bound[0] ?? .none)] ?? bound[1] ?? .none
    }
    _ = try bind(arguments, to: [], of: name)
    switch name {
    case "keys": return view("dict_keys", try items(dictionary.keys))
    case "values": return view("dict_values", try items(dictionary.values))
    case "items": return view("dict_items", try items(try pairs(of: dictionary)))
    default: return .dictionary(dictionary)
    }
  }

  private func view(_ kind: String, _ items: TemplateValue.Items) -> TemplateValue {
    .view(TemplateView(kind: kind, items: items))
  }

  func pairs(of dictionary: TemplateDictionary) throws(ChatTemplateError) -> [TemplateValue] {
    var pairs: [TemplateValue] = []
    for (key, value) in zip(dictionary.keys, dictionary.values) {
      pairs.append(.tuple(try items([key, value])))
    }
    return pairs
  }

  private func call(
    _ name: String, of items: TemplateValue.Items, _ arguments: TemplateArguments,
    _ receiver: TemplateValue
  ) throws(ChatTemplateError) -> TemplateValue {
    if name == "copy" { return receiver }
    let bound = try bind(arguments, to: ["value"], required: 1, of: name)
    var places: [Int] = []
    for (index, item) in items.values.enumerated()
    where try areEqual(item, bound[0] ?? .none) {
      places.append(index)
    }
    if name == "count" { return .int(places.count) }
    guard let first = places.first else { throw error("'index' finds no such value") }
    return .int(first)
  }

  private func call(
    _ name: String, of loop: TemplateLoopState, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    guard arguments.named.isEmpty else { throw error("'\(name)' takes no named arguments") }
    if name == "cycle" {
      guard !arguments.positional.isEmpty else { throw error("'cycle' needs a value") }
      return arguments.positional[loop.index % arguments.positional.count]
    }
    let values = arguments.positional
    defer { loop.changed = values }
    guard let before = loop.changed, before.count == values.count else { return .bool(true) }
    for (old, new) in zip(before, values) where try !areEqual(old, new) { return .bool(true) }
    return .bool(false)
  }
}
