import NibbleFormats

/// A value of the template language, with Python's meaning.
///
/// Lists, tuples and dictionaries cannot be changed: transformers renders in a sandbox that refuses
/// `append` and its like, so only a namespace has state.
enum TemplateValue {
  /// A name or member that is not there; the text says which.
  case undefined(String)
  case none
  case bool(Bool)
  case int(Int)
  case float(Double)
  case string(String)
  case list(Items)
  case tuple(Items)
  case range(Items)
  case view(TemplateView)
  case dictionary(TemplateDictionary)
  case generator(TemplateGenerator)
  case namespace(TemplateNamespace)
  case loop(TemplateLoopState)
  case macro(TemplateMacro)
  case function(TemplateFunction)
  indirect case method(TemplateValue, String)

  /// Elements, and the depth of nested values in them, which the interpreter bounds when it makes
  /// one.
  struct Items {
    var values: [TemplateValue]
    var depth: Int
  }
}

/// What `dict.keys()`, `values()` and `items()` return: countable, not indexable.
final class TemplateView {
  let kind: String
  let items: TemplateValue.Items

  init(kind: String, items: TemplateValue.Items) {
    self.kind = kind
    self.items = items
  }
}

/// The result of `map`, `select` and `reverse`: it can be iterated once.
final class TemplateGenerator {
  let depth: Int
  private var rest: ArraySlice<TemplateValue>

  init(_ items: TemplateValue.Items) {
    depth = items.depth
    rest = items.values[...]
  }

  func next() -> TemplateValue? { rest.popFirst() }

  func drain() -> [TemplateValue] {
    defer { rest = [] }
    return Array(rest)
  }
}

/// The one value that a template can change.
final class TemplateNamespace {
  var attributes: [UTF8Key: TemplateValue] = [:]
  /// The names in the order in which they were first set.
  var order: [String] = []

  subscript(name: String) -> TemplateValue? {
    get { attributes[UTF8Key(name)] }
    set {
      if attributes.updateValue(newValue ?? .none, forKey: UTF8Key(name)) == nil {
        order.append(name)
      }
    }
  }
}

/// `loop` inside a for.
final class TemplateLoopState {
  var items: [TemplateValue]
  let count: Int
  var index = 0
  var changed: [TemplateValue]?

  init(_ items: [TemplateValue]) {
    self.items = items
    count = items.count
  }
}

/// The variables of one template, macro call or loop iteration.
final class TemplateScope {
  private var values: [String: TemplateValue] = [:]
  private let outer: TemplateScope?

  init(inside outer: TemplateScope?) { self.outer = outer }

  subscript(name: String) -> TemplateValue? {
    get {
      var scope: TemplateScope? = self
      while let current = scope {
        if let value = current.values[name] { return value }
        scope = current.outer
      }
      return nil
    }
    set { values[name] = newValue }
  }
}

/// A macro and the variables around its definition; nil once rendering has ended.
final class TemplateMacro {
  let definition: TemplateMacroDefinition
  var scope: TemplateScope?

  init(_ definition: TemplateMacroDefinition, scope: TemplateScope) {
    self.definition = definition
    self.scope = scope
  }
}

/// The functions that a template sees.
enum TemplateFunction: String {
  case range
  case dict
  case namespace
  case raiseException = "raise_exception"
  case strftimeNow = "strftime_now"
  case cycler
  case joiner
  case lipsum
}

extension TemplateValue {
  /// Python's name of this type, for messages.
  var typeName: String {
    switch self {
    case .undefined: "undefined"
    case .none: "None"
    case .bool: "bool"
    case .int: "int"
    case .float: "float"
    case .string: "str"
    case .list: "list"
    case .tuple: "tuple"
    case .range: "range"
    case .view(let view): view.kind
    case .dictionary: "dict"
    case .generator: "generator"
    case .namespace: "namespace"
    case .loop: "loop"
    case .macro: "macro"
    case .function: "function"
    case .method: "method"
    }
  }

  /// Depth of nested values: 0 for one that holds none.
  var depth: Int {
    switch self {
    case .list(let items), .tuple(let items), .range(let items): items.depth
    case .view(let view): view.items.depth
    case .dictionary(let dictionary): dictionary.depth
    case .generator(let generator): generator.depth
    case .method(let receiver, _): receiver.depth + 1
    default: 0
    }
  }

  /// Python's `bool(x)`.
  var isTrue: Bool {
    switch self {
    case .undefined, .none: false
    case .bool(let value): value
    case .int(let value): value != 0
    case .float(let value): value != 0
    case .string(let value): !value.isEmpty
    case .list(let items), .tuple(let items), .range(let items): !items.values.isEmpty
    case .view(let view): !view.items.values.isEmpty
    case .dictionary(let dictionary): dictionary.count > 0
    case .loop(let loop): loop.count > 0
    case .generator, .namespace, .macro, .function, .method: true
    }
  }

  /// The integer when this is one; a bool is an int.
  var integer: Int? {
    switch self {
    case .bool(let value): value ? 1 : 0
    case .int(let value): value
    default: nil
    }
  }

  var number: Double? {
    if case .float(let value) = self { value } else { integer.map(Double.init) }
  }

  var isNone: Bool { if case .none = self { true } else { false } }

  var isUndefined: Bool { if case .undefined = self { true } else { false } }
}
