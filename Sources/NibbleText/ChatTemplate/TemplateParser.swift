/// Builds statements from tokens, with Jinja 3.1's grammar and precedence.
struct TemplateParser {
  /// Brackets and blocks inside one another, which fit into a stack of 512 KiB.
  static let depthLimit = 48

  var tokens: [TemplateToken]
  var at = 0
  private var depth = 0
  private var loops = 0
  private var implicit: Set<String> = []

  static func statements(of template: String) throws(ChatTemplateError) -> [TemplateStatement] {
    var parser = TemplateParser(tokens: try TemplateLexer.tokens(of: template))
    return try parser.body(until: [], of: "template")
  }

  private init(tokens: [TemplateToken]) { self.tokens = tokens }

  // MARK: tokens

  var kind: TemplateToken.Kind { tokens[at].kind }
  var line: Int { tokens[at].line }

  mutating func advance() { if at < tokens.count - 1 { at += 1 } }

  mutating func take(_ wanted: TemplateToken.Kind) -> Bool {
    guard kind == wanted else { return false }
    advance()
    return true
  }

  mutating func expect(_ wanted: TemplateToken.Kind) throws(ChatTemplateError) {
    guard take(wanted) else {
      throw .syntax(line: line, "expected \(wanted.words), found \(kind.words)")
    }
  }

  mutating func expectName() throws(ChatTemplateError) -> String {
    guard case .name(let name) = kind else {
      throw .syntax(line: line, "expected a name, found \(kind.words)")
    }
    advance()
    return name
  }

  mutating func descend() throws(ChatTemplateError) {
    depth += 1
    guard depth <= Self.depthLimit else {
      throw .tooDeep(line: line, limit: Self.depthLimit)
    }
  }

  mutating func ascend() { depth -= 1 }

  mutating func note(name: String) {
    if ["caller", "varargs", "kwargs"].contains(name) { implicit.insert(name) }
  }

  // MARK: statements

  /// Statements up to a block that opens with one of `ends`; that word is the current token after.
  private mutating func body(
    until ends: [String], of what: String
  ) throws(ChatTemplateError) -> [TemplateStatement] {
    let start = line
    try descend()
    defer { ascend() }
    var statements: [TemplateStatement] = []
    while true {
      let line = line
      switch kind {
      case .text(let text):
        advance()
        statements.append(TemplateStatement(line: line, kind: .text(text)))
      case .variableBegin:
        advance()
        let value = try tuple()
        try expect(.variableEnd)
        statements.append(TemplateStatement(line: line, kind: .output(value)))
      case .blockBegin:
        advance()
        if case .name(let name) = kind, ends.contains(name) { return statements }
        statements.append(TemplateStatement(line: line, kind: try statement()))
        try expect(.blockEnd)
      case .end where ends.isEmpty: return statements
      default:
        throw .syntax(
          line: line, "'\(what)' of line \(start) is not closed by '\(ends.last ?? "")'")
      }
    }
  }

  /// The rest of the opening tag, then a body that ends with one of `ends`.
  private mutating func block(
    until ends: [String], of what: String
  ) throws(ChatTemplateError) -> [TemplateStatement] {
    _ = take(.symbol(":"))
    try expect(.blockEnd)
    return try body(until: ends, of: what)
  }

  private mutating func closedBlock(
    _ what: String
  ) throws(ChatTemplateError) -> [TemplateStatement] {
    let statements = try block(until: ["end" + what], of: what)
    advance()
    return statements
  }

  private mutating func statement() throws(ChatTemplateError) -> TemplateStatement.Kind {
    let line = line
    let word = try expectName()
    switch word {
    case "if": return try conditional()
    case "for": return try loop()
    case "set": return try set()
    case "macro": return try macro()
    case "call": return try callBlock()
    case "with": return try with()
    case "filter":
      let filters = try filterChain(startsInline: true)
      return .filterBlock(filters, try closedBlock(word))
    case "generation":
      let outer = loops
      loops = 0
      defer { loops = outer }
      return .generation(try closedBlock(word))
    case "break", "continue":
      guard loops > 0 else { throw .syntax(line: line, "'\(word)' outside a loop") }
      return word == "break" ? .breakLoop : .continueLoop
    case "print", "block", "extends", "include", "import", "from", "autoescape", "do", "trans":
      throw .unsupported(line: line, "the statement '\(word)'")
    default: throw .syntax(line: line, "unknown statement '\(word)'")
    }
  }

  private mutating func conditional() throws(ChatTemplateError) -> TemplateStatement.Kind {
    var branches: [(condition: TemplateExpression, body: [TemplateStatement])] = []
    while true {
      let condition = try tuple(conditional: false)
      branches.append((condition, try block(until: ["elif", "else", "endif"], of: "if")))
      if take(.name("elif")) { continue }
      if take(.name("else")) {
        return .conditional(branches, else: try closedBlock("if"))
      }
      advance()
      return .conditional(branches, else: [])
    }
  }

  private mutating func loop() throws(ChatTemplateError) -> TemplateStatement.Kind {
    let target = try target(endsWith: "in", namespaces: false)
    try expect(.name("in"))
    let items = try tuple(conditional: false, endsWith: "recursive")
    let condition = take(.name("if")) ? try expression() : nil
    if kind == .name("recursive") { throw .unsupported(line: line, "a recursive loop") }
    loops += 1
    let body = try block(until: ["else", "endfor"], of: "for")
    loops -= 1
    let otherwise = take(.name("else")) ? try closedBlock("for") : nil
    if otherwise == nil { advance() }
    return .loop(
      TemplateLoop(
        target: target, items: items, condition: condition, body: body,
        otherwise: otherwise ?? []))
  }

  private mutating func set() throws(ChatTemplateError) -> TemplateStatement.Kind {
    let target = try target(endsWith: nil, namespaces: true)
    if take(.symbol("=")) { return .set(target, try tuple()) }
    let filters = try filterChain(startsInline: false)
    return .setBlock(target, filters, try closedBlock("set"))
  }

  private mutating func with() throws(ChatTemplateError) -> TemplateStatement.Kind {
    var bindings: [(TemplateTarget, TemplateExpression)] = []
    while kind != .blockEnd, kind != .end {
      if !bindings.isEmpty { try expect(.symbol(",")) }
      let target = TemplateTarget.name(try expectName())
      try expect(.symbol("="))
      bindings.append((target, try expression()))
    }
    return .with(bindings, try closedBlock("with"))
  }

  // MARK: macros

  private mutating func macro() throws(ChatTemplateError) -> TemplateStatement.Kind {
    let name = try expectName()
    return .macro(try definition(name, closedBy: "macro", parameters: try signature()))
  }

  private mutating func callBlock() throws(ChatTemplateError) -> TemplateStatement.Kind {
    let parameters = kind == .symbol("(") ? try signature() : []
    let line = line
    guard case .postfix(let base, var parts) = try expression(),
      case .call(let arguments)? = parts.popLast()?.kind
    else { throw .syntax(line: line, "'call' needs a call") }
    let callee = parts.isEmpty ? base : .postfix(base, parts)
    let caller = try definition("caller", closedBy: "call", parameters: parameters)
    return .callBlock(callee, arguments, caller: caller)
  }

  private mutating func definition(
    _ name: String, closedBy word: String,
    parameters: [(name: String, fallback: TemplateExpression?)]
  ) throws(ChatTemplateError) -> TemplateMacroDefinition {
    let outer = (loops, implicit)
    (loops, implicit) = (0, [])
    let body = try closedBlock(word)
    let used = implicit
    (loops, implicit) = (outer.0, outer.1.union(used))
    return TemplateMacroDefinition(name: name, parameters: parameters, body: body, implicit: used)
  }

  private mutating func signature() throws(ChatTemplateError)
    -> [(name: String, fallback: TemplateExpression?)]
  {
    var parameters: [(name: String, fallback: TemplateExpression?)] = []
    try expect(.symbol("("))
    while kind != .symbol(")") {
      if !parameters.isEmpty { try expect(.symbol(",")) }
      let line = line
      let name = try expectName()
      let fallback = take(.symbol("=")) ? try expression() : nil
      if fallback == nil, parameters.last?.fallback != nil {
        throw .syntax(line: line, "'\(name)' needs a default: it follows one that has one")
      }
      parameters.append((name, fallback))
    }
    advance()
    return parameters
  }

  // MARK: targets

  private mutating func target(
    endsWith end: String?, namespaces: Bool
  ) throws(ChatTemplateError) -> TemplateTarget {
    var targets: [TemplateTarget] = []
    while true {
      if let end, kind == .name(end), !targets.isEmpty { break }
      targets.append(try singleTarget(namespaces: namespaces))
      if !take(.symbol(",")) {
        if targets.count == 1 { return targets[0] }
        break
      }
      if kind == .symbol("=") || kind == .blockEnd || kind == .symbol(")") { break }
    }
    return .tuple(targets)
  }

  private mutating func singleTarget(
    namespaces: Bool
  ) throws(ChatTemplateError) -> TemplateTarget {
    if take(.symbol("(")) {
      try descend()
      defer { ascend() }
      let inner = try target(endsWith: nil, namespaces: namespaces)
      try expect(.symbol(")"))
      return inner
    }
    let line = line
    let name = try expectName()
    if namespaces, take(.symbol(".")) { return .attribute(namespace: name, name: try expectName()) }
    guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
      throw .syntax(line: line, "cannot assign to '\(name)'")
    }
    return .name(name)
  }
}
