public import NibbleFormats
public import NibbleText

/// The conversation so far: turns of a question and its answer.
public struct Conversation: Hashable, Sendable {
  /// System message; nil for none.
  public var system: String?
  /// Questions and answers, alternating.
  public private(set) var turns: [ChatMessage] = []

  public init(system: String? = nil) { self.system = system }

  /// The messages for the chat template.
  public var messages: [ChatMessage] {
    (system.map { [ChatMessage(role: "system", content: $0)] } ?? []) + turns
  }

  /// Whether the last question has no answer yet.
  public var isOpen: Bool { turns.last?.role == "user" }

  public mutating func ask(_ question: String) {
    precondition(!isOpen, "a question waits for its answer")
    turns.append(ChatMessage(role: "user", content: question))
  }

  public mutating func answer(_ text: String) {
    precondition(isOpen, "there is no question to answer")
    turns.append(ChatMessage(role: "assistant", content: text))
  }

  /// Removes the last answer, so that its question can be answered again; false when there is none.
  public mutating func reopen() -> Bool {
    guard turns.last?.role == "assistant" else { return false }
    turns.removeLast()
    return true
  }

  /// Removes the last question, and its answer if it has one; false when there is none.
  public mutating func undo() -> Bool {
    guard let last = turns.lastIndex(where: { $0.role == "user" }) else { return false }
    turns.removeSubrange(last...)
    return true
  }

  /// Removes everything but the system message.
  public mutating func clear() { turns = [] }

  /// The messages in the form of the engines' APIs: `[{"role": ..., "content": ...}]`.
  public var json: JSON {
    .array(messages.map { ["role": .string($0.role), "content": .string($0.content)] })
  }
}
