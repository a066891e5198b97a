extension Tokenizer {
  /// The ids of a conversation as a chat template writes it.
  ///
  /// A special token spelled out in a message is encoded as plain text, so that nobody can write a
  /// turn of another role into a message. Text of the template itself becomes special tokens, as in
  /// transformers.
  public func encode(
    _ messages: [ChatMessage], with template: ChatTemplate, addGenerationPrompt: Bool = true
  ) throws(ChatTemplateError) -> [Int] {
    func prompt(_ messages: [ChatMessage]) throws(ChatTemplateError) -> String {
      try template.render(
        messages, addGenerationPrompt: addGenerationPrompt, variables: templateVariables)
    }
    let text = try prompt(messages)
    guard messages.contains(where: { spellsSpecialToken(Array($0.content.utf8)) }) else {
      return encode(text)
    }
    // The template moves the text of messages; a mark inside it shows where it went.
    let used = Set(text.unicodeScalars).union(messages.flatMap(\.content.unicodeScalars))
    let mark = Self.marks.first { !used.contains($0) } ?? Self.marks[0]
    let bytes = Array(String(Character(mark)).utf8)
    let marked = messages.map { message in
      ChatMessage(
        role: message.role,
        content: String(
          decoding: marking(Array(message.content.utf8), with: bytes), as: UTF8.self))
    }
    return encode(Array(try prompt(marked).utf8), mark: bytes)
  }

  /// Noncharacters, which hardly occur in text, and private-use scalars.
  private static let marks: [Unicode.Scalar] =
    [0xFDD0...0xFDEF, 0xF_0000...0xF_FFFD, 0x10_0000...0x10_FFFD]
    .flatMap { (range: ClosedRange<UInt32>) in range.compactMap { Unicode.Scalar($0) } }

  private func spellsSpecialToken(_ text: [UInt8]) -> Bool {
    text.indices.contains { specialTokens.isSpelled(in: text.span, at: $0) }
  }

  /// The text with `mark` after the first character of each special token that is spelled out in
  /// it.
  private func marking(_ text: [UInt8], with mark: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    var at = 0
    while at < text.count {
      let length = text.span.scalar(at: at).length
      result += text[at..<at + length]
      if specialTokens.isSpelled(in: text.span, at: at) { result += mark }
      at += length
    }
    return result
  }

  /// The text without `mark`.
  static func removing(_ mark: [UInt8], from text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var at = 0
    while at < text.count {
      if text[at...].starts(with: mark) {
        at += mark.count
      } else {
        result.append(text[at])
        at += 1
      }
    }
    return result
  }
}
