extension TemplateInterpreter {
  /// Longest `range` that Jinja's sandbox allows.
  private static let rangeLimit = 100_000

  func call(
    _ callee: TemplateValue, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    switch callee {
    case .macro(let macro): return try call(macro, arguments)
    case .function(let function): return try call(function, arguments)
    case .method(let receiver, let name): return try call(name, of: receiver, arguments)
    case .undefined(let what): throw error(what)
    default: throw error("a \(callee.typeName) cannot be called")
    }
  }

  private func call(
    _ function: TemplateFunction, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    switch function {
    case .range: return try range(arguments)
    case .dict: return try makeDictionary(arguments)
    case .namespace:
      let namespace = namespace()
      guard case .dictionary(let members) = try makeDictionary(arguments) else { return .none }
      for (name, value) in zip(members.keys, members.values) {
        try set(try text(name, of: "namespace"), of: namespace, to: value)
      }
      return .namespace(namespace)
    case .raiseException:
      let bound = try bind(arguments, to: ["message"], required: 1, of: function.rawValue)
      throw .raised(try string(bound[0] ?? .none))
    case .strftimeNow:
      let bound = try bind(arguments, to: ["format"], required: 1, of: function.rawValue)
      return try text(try date(try text(bound[0], of: function.rawValue)))
    case .cycler, .joiner, .lipsum:
      throw .unsupported(line: line, "the function '\(function.rawValue)'")
    }
  }

  private func range(_ arguments: TemplateArguments) throws(ChatTemplateError) -> TemplateValue {
    guard arguments.named.isEmpty, (1...3).contains(arguments.positional.count) else {
      throw error("'range' takes one to three integers")
    }
    var numbers: [Int] = []
    for value in arguments.positional {
      numbers.append(try integer(value, of: "range") ?? 0)
    }
    let (start, stop) = numbers.count == 1 ? (0, numbers[0]) : (numbers[0], numbers[1])
    let step = numbers.count == 3 ? numbers[2] : 1
    guard step != 0 else { throw error("'range' needs a step other than zero") }
    var values: [TemplateValue] = []
    for number in stride(from: start, to: stop, by: step) {
      guard values.count < Self.rangeLimit else {
        throw error("'range' makes more than \(Self.rangeLimit) numbers")
      }
      values.append(.int(number))
    }
    return .range(try items(values))
  }

  private func makeDictionary(
    _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    guard arguments.positional.count <= 1 else { throw error("'dict' takes one mapping") }
    var members: [(TemplateValue, TemplateValue)] = []
    switch arguments.positional.first {
    case nil: break
    case .dictionary(let dictionary)?: members = Array(zip(dictionary.keys, dictionary.values))
    case let pairs?:
      for pair in try elements(of: pairs) {
        let pair = try elements(of: pair)
        guard pair.count == 2 else { throw error("'dict' needs pairs") }
        members.append((pair[0], pair[1]))
      }
    }
    for (name, value) in arguments.named { members.append((.string(name), value)) }
    return try dictionary(members)
  }

  // MARK: macros

  private func call(
    _ macro: TemplateMacro, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) -> TemplateValue {
    try enter()
    defer { leave() }
    let definition = macro.definition
    let outer = (scope, output, line)
    scope = TemplateScope(inside: macro.scope)
    output = ""
    defer { (scope, output, line) = outer }
    try bindParameters(of: definition, arguments)
    _ = try run(definition.body)
    return .string(output)
  }

  private func bindParameters(
    of definition: TemplateMacroDefinition, _ arguments: TemplateArguments
  ) throws(ChatTemplateError) {
    let parameters = definition.parameters
    var named = arguments.named
    for (index, parameter) in parameters.enumerated() {
      let given = named.firstIndex { $0.name == parameter.name }
      if index < arguments.positional.count {
        guard given == nil else {
          throw error("macro '\(definition.name)' has '\(parameter.name)' twice")
        }
        scope[parameter.name] = arguments.positional[index]
      } else if let given {
        scope[parameter.name] = named.remove(at: given).value
      } else if let fallback = parameter.fallback {
        scope[parameter.name] = try evaluate(fallback)
      } else {
        scope[parameter.name] = .undefined("parameter '\(parameter.name)' was not provided")
      }
    }
    if definition.implicit.contains("caller") {
      let given = named.firstIndex { $0.name == "caller" }
      scope["caller"] = given.map { named.remove(at: $0).value } ?? .undefined("no caller defined")
    }
    if definition.implicit.contains("kwargs") {
      scope["kwargs"] = try dictionary(named.map { (.string($0.name), $0.value) })
    } else if let extra = named.first {
      throw error("macro '\(definition.name)' has no argument '\(extra.name)'")
    }
    let extra = Array(arguments.positional.dropFirst(parameters.count))
    if definition.implicit.contains("varargs") {
      scope["varargs"] = .tuple(try items(extra))
    } else if !extra.isEmpty {
      throw error("macro '\(definition.name)' takes at most \(parameters.count) arguments")
    }
  }
}
