extension TemplateInterpreter {
  func run(_ statements: [TemplateStatement]) throws(ChatTemplateError) -> Flow {
    try enter()
    defer { leave() }
    for statement in statements {
      line = statement.line
      try charge()
      let flow = try run(statement)
      if flow != .onward { return flow }
    }
    return .onward
  }

  private func run(_ statement: TemplateStatement) throws(ChatTemplateError) -> Flow {
    switch statement.kind {
    case .text(let text): try emit(text)
    case .output(let expression): try emit(try string(try evaluate(expression)))
    case .conditional(let branches, let otherwise):
      return try conditional(branches, else: otherwise)
    case .loop(let loop): return try run(loop)
    case .set(let target, let expression): try assign(try evaluate(expression), to: target)
    case .setBlock(let target, let filters, let body):
      return try capture(body, through: filters) { value throws(ChatTemplateError) in
        try self.assign(value, to: target)
      }
    case .filterBlock(let filters, let body):
      return try capture(body, through: filters) { value throws(ChatTemplateError) in
        try self.emit(try self.string(value))
      }
    case .macro(let definition): scope[definition.name] = .macro(macro(definition))
    case .callBlock(let callee, let arguments, let caller):
      try callBlock(callee, arguments, caller)
    case .with(let bindings, let body): return try with(bindings, body)
    case .generation(let body): return try inner { () throws(ChatTemplateError) in try run(body) }
    case .breakLoop: return .leaveLoop
    case .continueLoop: return .nextTurn
    }
    return .onward
  }

  /// Runs `body` with a scope of its own.
  func inner<Result>(
    _ body: () throws(ChatTemplateError) -> Result
  ) throws(ChatTemplateError) -> Result {
    let outer = scope
    scope = TemplateScope(inside: outer)
    defer { scope = outer }
    return try body()
  }

  private func conditional(
    _ branches: [(condition: TemplateExpression, body: [TemplateStatement])],
    else otherwise: [TemplateStatement]
  ) throws(ChatTemplateError) -> Flow {
    for branch in branches where try evaluate(branch.condition).isTrue {
      return try run(branch.body)
    }
    return try run(otherwise)
  }

  private func capture(
    _ body: [TemplateStatement], through filters: [TemplateExpression.Postfix],
    _ use: (TemplateValue) throws(ChatTemplateError) -> Void
  ) throws(ChatTemplateError) -> Flow {
    let outer = output
    output = ""
    let flow = try inner { () throws(ChatTemplateError) in try run(body) }
    var value = TemplateValue.string(output)
    output = outer
    for filter in filters { value = try apply(filter, to: value) }
    try use(value)
    return flow
  }

  private func callBlock(
    _ callee: TemplateExpression, _ arguments: TemplateExpression.Arguments,
    _ caller: TemplateMacroDefinition
  ) throws(ChatTemplateError) {
    let callee = try evaluate(callee)
    var arguments = try evaluate(arguments)
    arguments.named.append(("caller", .macro(macro(caller))))
    try emit(try string(try call(callee, arguments)))
  }

  private func with(
    _ bindings: [(TemplateTarget, TemplateExpression)], _ body: [TemplateStatement]
  ) throws(ChatTemplateError) -> Flow {
    var values: [(TemplateTarget, TemplateValue)] = []
    for (target, expression) in bindings { values.append((target, try evaluate(expression))) }
    return try inner { () throws(ChatTemplateError) in
      for (target, value) in values { try assign(value, to: target) }
      return try run(body)
    }
  }

  // MARK: loops

  private func run(_ loop: TemplateLoop) throws(ChatTemplateError) -> Flow {
    var items = try elements(of: try evaluate(loop.items))
    if let condition = loop.condition {
      items = try filtered(items, by: condition, target: loop.target)
    }
    guard !items.isEmpty else {
      return try inner { () throws(ChatTemplateError) in try run(loop.otherwise) }
    }
    let state = self.loop(over: items)
    defer { state.items = [] }
    for index in items.indices {
      try charge()
      state.index = index
      let flow = try inner { () throws(ChatTemplateError) in
        scope["loop"] = .loop(state)
        try assign(items[index], to: loop.target)
        return try run(loop.body)
      }
      if flow == .leaveLoop { break }
    }
    return .onward
  }

  private func filtered(
    _ items: [TemplateValue], by condition: TemplateExpression, target: TemplateTarget
  ) throws(ChatTemplateError) -> [TemplateValue] {
    var kept: [TemplateValue] = []
    for item in items {
      let keeps = try inner { () throws(ChatTemplateError) in
        scope["loop"] = .undefined("'loop' is not defined in the condition of a loop")
        try assign(item, to: target)
        return try evaluate(condition).isTrue
      }
      if keeps { kept.append(item) }
    }
    return kept
  }

  // MARK: assignment

  func assign(
    _ value: TemplateValue, to target: TemplateTarget
  ) throws(ChatTemplateError) {
    switch target {
    case .name(let name): scope[name] = value
    case .attribute(let owner, let name):
      guard case .namespace(let namespace)? = scope[owner] else {
        throw error("cannot set '\(owner).\(name)': '\(owner)' is not a namespace")
      }
      try set(name, of: namespace, to: value)
    case .tuple(let targets):
      let values = try elements(of: value)
      guard values.count == targets.count else {
        throw error("\(values.count) values for \(targets.count) names")
      }
      for (target, value) in zip(targets, values) { try assign(value, to: target) }
    }
  }

  func set(
    _ name: String, of namespace: TemplateNamespace, to value: TemplateValue
  ) throws(ChatTemplateError) {
    guard !name.utf8.starts(with: "_".utf8) else {
      throw error("a namespace may not hold '\(name)': it starts with an underscore")
    }
    namespace[name] = value
  }
}
