import NibbleFormats

import struct Foundation.Date

/// Runs a parsed template once.
///
/// Templates come with checkpoints and are treated as hostile: each operation counts as a step,
/// plus one per 64 bytes or 4 elements it touches; texts, nesting and recursion are bounded. Values
/// are released without deep recursion.
final class TemplateInterpreter {
  /// Nested frames of statements and expressions together; a macro that calls itself uses four to
  /// eight. They fit into a stack of 512 KiB, also without optimization.
  static let depthLimit = 96
  static let nestingLimit = 64

  let limits: ChatTemplate.Limits
  let now: Date?
  var line = 1
  var output = ""
  var scope = TemplateScope(inside: nil)
  private var steps = 0
  private var depth = 0
  private var macros: [TemplateMacro] = []
  private var namespaces: [TemplateNamespace] = []
  private var loops: [TemplateLoopState] = []

  enum Flow { case onward, leaveLoop, nextTurn }

  init(limits: ChatTemplate.Limits, now: Date?) {
    self.limits = limits
    self.now = now
  }

  func render(
    _ statements: [TemplateStatement], variables: JSONObject
  ) throws(ChatTemplateError) -> String {
    defer { release() }
    for (name, value) in variables { scope[name] = try TemplateInterpreter.value(of: value) }
    _ = try run(statements)
    return output
  }

  /// Breaks the chains and cycles between macros, scopes, namespaces and loops, one at a time.
  private func release() {
    scope = TemplateScope(inside: nil)
    for namespace in namespaces { namespace.attributes = [:] }
    for macro in macros { macro.scope = nil }
    for loop in loops {
      loop.items = []
      loop.changed = nil
    }
  }

  // MARK: limits

  func charge(_ count: Int = 1) throws(ChatTemplateError) {
    steps += min(count, limits.steps) + 1
    guard steps <= limits.steps else { throw .tooManySteps(line: line, limit: limits.steps) }
  }

  func charge(_ text: String) throws(ChatTemplateError) { try charge(text.utf8.count / 64) }

  func enter() throws(ChatTemplateError) {
    depth += 1
    guard depth <= Self.depthLimit else { throw .tooDeep(line: line, limit: Self.depthLimit) }
  }

  func leave() { depth -= 1 }

  func emit(_ text: String) throws(ChatTemplateError) {
    try charge(text)
    guard text.utf8.count <= limits.outputBytes - output.utf8.count else {
      throw .tooMuchOutput(line: line, limit: limits.outputBytes)
    }
    output += text
  }

  func error(_ what: String) -> ChatTemplateError { .evaluation(line: line, what) }

  // MARK: making values

  func text(_ text: String) throws(ChatTemplateError) -> TemplateValue {
    try charge(text)
    guard text.utf8.count <= limits.outputBytes else {
      throw .tooMuchOutput(line: line, limit: limits.outputBytes)
    }
    return .string(text)
  }

  func items(_ values: [TemplateValue]) throws(ChatTemplateError) -> TemplateValue.Items {
    try charge(values.count / 4)
    var depth = 1
    for value in values { depth = max(depth, value.depth + 1) }
    guard depth <= Self.nestingLimit else {
      throw .tooDeep(line: line, limit: Self.nestingLimit)
    }
    return TemplateValue.Items(values: values, depth: depth)
  }

  func list(_ values: [TemplateValue]) throws(ChatTemplateError) -> TemplateValue {
    .list(try items(values))
  }

  func generator(_ values: [TemplateValue]) throws(ChatTemplateError) -> TemplateValue {
    .generator(TemplateGenerator(try items(values)))
  }

  func dictionary(
    _ members: [(TemplateValue, TemplateValue)]
  ) throws(ChatTemplateError) -> TemplateValue {
    try charge(members.count / 4)
    var dictionary = TemplateDictionary()
    for (key, value) in members { dictionary.set(try self.key(key), named: key, to: value) }
    guard dictionary.depth <= Self.nestingLimit else {
      throw .tooDeep(line: line, limit: Self.nestingLimit)
    }
    return .dictionary(dictionary)
  }

  func namespace() -> TemplateNamespace {
    let namespace = TemplateNamespace()
    namespaces.append(namespace)
    return namespace
  }

  func loop(over items: [TemplateValue]) -> TemplateLoopState {
    let loop = TemplateLoopState(items)
    loops.append(loop)
    return loop
  }

  func macro(_ definition: TemplateMacroDefinition) -> TemplateMacro {
    let macro = TemplateMacro(definition, scope: scope)
    macros.append(macro)
    return macro
  }

  /// The key of a dictionary; an error for a value that Python cannot hash.
  func key(_ value: TemplateValue) throws(ChatTemplateError) -> TemplateDictionary.Key {
    try charge()
    switch value {
    case .undefined: return .undefined
    case .none: return .none
    case .bool, .int: return .int(value.integer ?? 0)
    case .float(let number): return Int(exactly: number).map { .int($0) } ?? .float(number)
    case .string(let text):
      try charge(text)
      return .string(UTF8Key(text))
    case .tuple(let items):
      var keys: [TemplateDictionary.Key] = []
      for item in items.values { keys.append(try key(item)) }
      return .tuple(keys)
    default: throw error("a \(value.typeName) cannot be a key")
    }
  }
}

// MARK: JSON

extension TemplateInterpreter {
  /// The template's view of a JSON value.
  static func value(of json: JSON, depth: Int = 0) throws(ChatTemplateError) -> TemplateValue {
    guard depth < nestingLimit else { throw .tooDeep(line: 1, limit: nestingLimit) }
    switch json {
    case .null: return .none
    case .bool(let value): return .bool(value)
    case .integer(let value):
      guard let value = Int(exactly: value) else {
        throw .evaluation(line: 1, "\(value) does not fit an integer")
      }
      return .int(value)
    case .number(let value): return .float(value)
    case .string(let value): return .string(value)
    case .array(let elements):
      var values: [TemplateValue] = []
      for element in elements { values.append(try value(of: element, depth: depth + 1)) }
      let deepest = values.reduce(0) { max($0, $1.depth) }
      return .list(TemplateValue.Items(values: values, depth: deepest + 1))
    case .object(let object):
      var dictionary = TemplateDictionary()
      for (key, member) in object {
        dictionary.set(
          .string(UTF8Key(key)), named: .string(key), to: try value(of: member, depth: depth + 1))
      }
      return .dictionary(dictionary)
    }
  }
}
