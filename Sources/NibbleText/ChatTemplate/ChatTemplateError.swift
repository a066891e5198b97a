/// Reasons why a chat template cannot be parsed or rendered. Lines count from 1, in the template.
public enum ChatTemplateError: Error, Hashable, Sendable {
  /// The text is not a template.
  case syntax(line: Int, String)
  /// A construct of Jinja that Nibble does not support, by name.
  case unsupported(line: Int, String)
  /// An operation that Python would refuse, on the values at hand.
  case evaluation(line: Int, String)
  /// The template called `raise_exception`: it refuses this conversation.
  case raised(String)
  case tooManySteps(line: Int, limit: Int)
  case tooMuchOutput(line: Int, limit: Int)
  case tooDeep(line: Int, limit: Int)
}

extension ChatTemplateError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .syntax(let line, let what): "chat template, line \(line): \(what)"
    case .unsupported(let line, let what):
      "chat template, line \(line): \(what) is not supported; pass another template"
    case .evaluation(let line, let what): "chat template, line \(line): \(what)"
    case .raised(let message): "the chat template refuses this conversation: \(message)"
    case .tooManySteps(let line, let limit):
      "chat template, line \(line): more than \(limit) steps; raise the limit if the template is trusted"
    case .tooMuchOutput(let line, let limit):
      "chat template, line \(line): a text of more than \(limit) bytes; raise the limit if the template is trusted"
    case .tooDeep(let line, let limit):
      "chat template, line \(line): nested deeper than \(limit)"
    }
  }
}
