/// The evaluated arguments of a call, filter or test.
struct TemplateArguments {
  var positional: [TemplateValue] = []
  var named: [(name: String, value: TemplateValue)] = []
}

extension TemplateInterpreter {
  /// The arguments in the order of `names`, nil where one is missing. The first `required` must be
  /// present; others than `names` are refused.
  func bind(
    _ arguments: TemplateArguments, to names: [String], required: Int = 0, of what: String
  ) throws(ChatTemplateError) -> [TemplateValue?] {
    guard arguments.positional.count <= names.count else {
      throw error(
        "'\(what)' takes at most \(names.count) arguments, not \(arguments.positional.count)")
    }
    var bound = [TemplateValue?](repeating: nil, count: names.count)
    for (index, value) in arguments.positional.enumerated() { bound[index] = value }
    for (name, value) in arguments.named {
      guard let index = names.firstIndex(of: name) else {
        throw error("'\(what)' has no argument '\(name)'")
      }
      guard bound[index] == nil else { throw error("'\(what)' has '\(name)' twice") }
      bound[index] = value
    }
    for index in 0..<required where bound[index] == nil {
      throw error("'\(what)' needs '\(names[index])'")
    }
    return bound
  }

  func integer(_ value: TemplateValue?, of what: String) throws(ChatTemplateError) -> Int? {
    guard let value else { return nil }
    guard let integer = value.integer else {
      throw error("'\(what)' needs an integer, not \(value.typeName)")
    }
    return integer
  }

  func text(_ value: TemplateValue?, of what: String) throws(ChatTemplateError) -> String {
    guard case .string(let text)? = value else {
      throw error("'\(what)' needs a str, not \(value?.typeName ?? "nothing")")
    }
    return text
  }
}
