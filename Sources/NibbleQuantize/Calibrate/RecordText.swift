import Foundation
import NibbleFormats
import NibbleModel
import NibbleText

/// Turns a record into a document: joins its fields, or renders its conversation with a chat
/// template.
struct RecordText {
  /// The fields to read of each record, in this order; empty to detect.
  let fields: [String]
  let template: ChatTemplate?
  /// Variables of the template besides the messages.
  let variables: [String: JSON]

  /// Empty when the fields are.
  func document(_ record: JSON) throws(RecordFault) -> String {
    if let text = record.string { return text }
    guard let object = record.object else { throw .notAnObject(found: record.kind) }
    if !fields.isEmpty { return try joined(fields, of: object) }
    guard let shape = Shape.allCases.first(where: { $0.matches(object) }) else {
      throw .unknownFields(object.keys)
    }
    return switch shape {
    case .boolQ: try Self.boolQ(object)
    case .pair(let names): try joined(names.filter { object[$0] != nil }, of: object)
    }
  }

  func isRecord(_ json: JSON) -> Bool {
    guard let object = json.object else { return false }
    return fields.isEmpty
      ? Shape.allCases.contains { $0.matches(object) }
      : fields.allSatisfy { object[$0] != nil }
  }

  /// Known sets of fields, in the order in which they are tried.
  private enum Shape {
    /// A passage and a question that it answers.
    case boolQ
    /// Fields joined by line feeds; the first is required.
    case pair([String])

    static let allCases: [Shape] = [
      .pair(["text"]), .pair(["content"]), .pair(["messages"]), .pair(["conversations"]), .boolQ,
      .pair(["inputs_pretokenized"]), .pair(["prompt", "completion", "response"]),
      .pair(["instruction", "input", "output", "response"]),
    ]

    func matches(_ object: JSONObject) -> Bool {
      switch self {
      case .boolQ: object["passage"] != nil && object["question"] != nil
      case .pair(let names): names.first.map { object[$0] != nil } ?? false
      }
    }
  }

  /// `title -- passage`, then the question and the start of its answer: the prompt of the BoolQ
  /// task in common evaluation harnesses.
  private static func boolQ(_ object: JSONObject) throws(RecordFault) -> String {
    let passage = try text("passage", of: object)
    let question = try text("question", of: object)
    let title = object["title"] == nil ? "" : try text("title", of: object)
    return (title.isEmpty ? "" : "\(title) -- ") + passage
      + "\nQuestion: \(question)\(question.hasSuffix("?") ? "" : "?")\nAnswer:"
  }

  private func joined(_ names: [String], of object: JSONObject) throws(RecordFault) -> String {
    var parts: [String] = []
    for name in names {
      guard let value = object[name] else {
        throw .missingField(name, found: object.keys)
      }
      if let messages = value.array {
        parts.append(try conversation(messages, name))
      } else {
        parts.append(try Self.text(name, of: object))
      }
    }
    return parts.filter { !$0.isEmpty }.joined(separator: "\n")
  }

  /// The field's text; null is empty.
  private static func text(_ name: String, of object: JSONObject) throws(RecordFault) -> String {
    let value = object[name] ?? .null
    guard let text = value.isNull ? "" : value.string else {
      throw .notText(field: name, found: value.kind)
    }
    return text
  }

  private func conversation(_ messages: [JSON], _ name: String) throws(RecordFault) -> String {
    guard !messages.isEmpty else { return "" }
    guard let template else { throw .noChatTemplate(field: name) }
    var turns: [JSON] = []
    for (index, message) in messages.enumerated() { turns.append(try turn(message, index + 1)) }
    var all = JSONObject()
    all["messages"] = .array(turns)
    for (name, value) in variables { all[name] = value }
    do {
      return try template.render(.object(all), now: Self.date, limits: ChatTemplate.Limits())
    } catch { throw .chatTemplate(error) }
  }

  /// A message in the form of chat templates: `from` and `value` become `role` and `content`.
  private func turn(_ message: JSON, _ number: Int) throws(RecordFault) -> JSON {
    guard message.object != nil else { throw .message(number, reason: "is \(message.kind)") }
    if message["role"] != nil {
      guard message["role"]?.string != nil else {
        throw .message(number, reason: "has a role that is not a string")
      }
      return message
    }
    guard let speaker = message["from"]?.string, let text = message["value"]?.string else {
      throw .message(number, reason: "has neither role and content nor from and value")
    }
    let roles = ["human": "user", "gpt": "assistant"]
    return ["role": .string(roles[speaker] ?? speaker), "content": .string(text)]
  }

  /// The date given to templates that ask for today's, so that the text is the same every day: 26
  /// July 2024, the fallback of Llama 3's own template.
  private static let date = Date(timeIntervalSince1970: 1_721_991_600)
}
