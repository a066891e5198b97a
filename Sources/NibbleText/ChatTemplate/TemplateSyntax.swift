/// An expression of the template language.
///
/// Chains of operators of one precedence are flat arrays, so the depth of a tree is the depth of
/// its brackets, which the parser bounds, and not the length of a sum.
indirect enum TemplateExpression: Sendable {
  case none
  case bool(Bool)
  case int(Int)
  case float(Double)
  case string(String)
  case name(String)
  case list([TemplateExpression])
  case tuple([TemplateExpression])
  case dictionary([(key: TemplateExpression, value: TemplateExpression)])
  case not(TemplateExpression)
  case negative(TemplateExpression)
  case positive(TemplateExpression)
  case all([TemplateExpression])
  case any([TemplateExpression])
  case concatenation([TemplateExpression])
  case arithmetic(TemplateExpression, [(Arithmetic, TemplateExpression)])
  case comparison(TemplateExpression, [(Comparison, TemplateExpression)])
  case conditional(TemplateExpression, if: TemplateExpression, else: TemplateExpression?)
  case postfix(TemplateExpression, [Postfix])

  enum Arithmetic: String, Sendable {
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case floorDivide = "//"
    case remainder = "%"
    case power = "**"
  }

  enum Comparison: String, Sendable {
    case equal = "=="
    case unequal = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case isIn = "in"
    case isNotIn = "not in"
  }

  /// What follows a value: `.name`, `[item]`, `[a:b:c]`, `(arguments)`, `|filter`, `is test`.
  struct Postfix: Sendable {
    var line: Int
    var kind: Kind

    enum Kind: Sendable {
      case attribute(String)
      case item(TemplateExpression)
      case slice(TemplateExpression?, TemplateExpression?, TemplateExpression?)
      case call(Arguments)
      case filter(String, Arguments)
      case test(String, Arguments, negated: Bool)
    }
  }

  struct Arguments: Sendable {
    var positional: [TemplateExpression] = []
    var named: [(name: String, value: TemplateExpression)] = []
  }
}

/// Something that a value can be assigned to.
indirect enum TemplateTarget: Sendable {
  case name(String)
  case attribute(namespace: String, name: String)
  case tuple([TemplateTarget])
}

/// A statement, and the line it starts on.
struct TemplateStatement: Sendable {
  var line: Int
  var kind: Kind

  indirect enum Kind: Sendable {
    case text(String)
    case output(TemplateExpression)
    case conditional(
      [(condition: TemplateExpression, body: [TemplateStatement])], else: [TemplateStatement])
    case loop(TemplateLoop)
    case set(TemplateTarget, TemplateExpression)
    case setBlock(TemplateTarget, [TemplateExpression.Postfix], [TemplateStatement])
    case macro(TemplateMacroDefinition)
    case callBlock(
      TemplateExpression, TemplateExpression.Arguments, caller: TemplateMacroDefinition)
    case filterBlock([TemplateExpression.Postfix], [TemplateStatement])
    case with([(TemplateTarget, TemplateExpression)], [TemplateStatement])
    case generation([TemplateStatement])
    case breakLoop
    case continueLoop
  }
}

struct TemplateLoop: Sendable {
  var target: TemplateTarget
  var items: TemplateExpression
  var condition: TemplateExpression?
  var body: [TemplateStatement]
  var otherwise: [TemplateStatement]
}

struct TemplateMacroDefinition: Sendable {
  var name: String
  var parameters: [(name: String, fallback: TemplateExpression?)]
  var body: [TemplateStatement]
  /// Which of `caller`, `varargs` and `kwargs` the body names, and so accepts.
  var implicit: Set<String>
}
