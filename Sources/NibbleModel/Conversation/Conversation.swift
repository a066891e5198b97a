public import NibbleFormats
public import NibbleText

/// What was said so far, by turns: a question and its answer.
public struct Conversation: Hashable, Sendable {
  /// What the model is told first; nil for nothing.
  public var system: String?
  /// Questions and answers in turn.
  public private(set) var turns: [ChatMessage] = []

  public init(system: String? = nil) { self.system = system }

  /// What the chat template is given.
  public var messages: [ChatMessage] {
    (system.map { [ChatMessage(role: "system", content: $0)] } ?? []) + turns
  }

  /// Whether the last question waits for its answer.
  public var isOpen: Bool { turns.last?.role == "user" }

  public mutating func ask(_ question: String) {
    precondition(!isOpen, "a question waits for its answer")
    turns.append(ChatMessage(role: "user", content: question))
  }

  public mutating func answer(_ text: String) {
    precondition(isOpen, "there is no question to answer")
    turns.append(ChatMessage(role: "assistant", content: text))
  }

  /// Takes the last answer back, so that its question can be answered again; false when there is none.
  public mutating func reopen() -> Bool {
    guard turns.last?.role == "assistant" else { return false }
    turns.removeLast()
    return true
  }

  /// Takes the last question back, and its answer if it has one; false when there is none.
  public mutating func undo() -> Bool {
    guard let last = turns.lastIndex(where: { $0.role == "user" }) else { return false }
    turns.removeSubrange(last...)
    return true
  }

  /// Forgets everything but what the model is told first.
  public mutating func clear() { turns = [] }

  /// The messages as the APIs of engines take them: `[{"role": ..., "content": ...}]`.
  public var json: JSON {
    .array(messages.map { ["role": .string($0.role), "content": .string($0.content)] })
  }
}
