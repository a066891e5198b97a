public import NibbleFormats

public import struct Foundation.Date

/// One turn of a conversation.
public struct ChatMessage: Hashable, Sendable {
  public var role: String
  public var content: String

  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }
}

/// A chat template: the Jinja text of a checkpoint that turns a conversation into a prompt.
///
/// The text of a rendered prompt is that of transformers 5.23 with Jinja 3.1.6, for the subset of
/// Jinja that published templates use; anything else is an error that names it. A template is
/// hostile: its work, its texts and its nesting are bounded by `Limits`.
public struct ChatTemplate: Sendable {
  /// Limits of one rendering.
  public struct Limits: Sendable {
    /// Statements, operations, and a share for each 64 bytes or 4 elements that one touches.
    public var steps = 1_000_000
    /// Bytes of the result, and of any text on the way to it.
    public var outputBytes = 16 << 20

    public init() {}
  }

  private let statements: [TemplateStatement]

  public init(_ source: String) throws(ChatTemplateError) {
    statements = try TemplateParser.statements(of: source)
  }

  /// The prompt of a conversation.
  ///
  /// - Parameters:
  ///   - variables: further variables of the template: `bos_token`, `tools`, `enable_thinking` and
  ///     so on; they take precedence over the names set here.
  ///   - now: the time that `strftime_now` formats, in the machine's time zone; nil is the present.
  public func render(
    _ messages: [ChatMessage], addGenerationPrompt: Bool, variables: [String: JSON] = [:],
    now: Date? = nil, limits: Limits = Limits()
  ) throws(ChatTemplateError) -> String {
    var all = JSONObject()
    all["messages"] = .array(
      messages.map { ["role": .string($0.role), "content": .string($0.content)] })
    all["add_generation_prompt"] = .bool(addGenerationPrompt)
    for (name, value) in variables { all[name] = value }
    return try render(.object(all), now: now, limits: limits)
  }

  /// Renders the prompt from `variables`, an object with `messages` and any other names of the
  /// template.
  ///
  /// As in transformers, `tools` and `documents` are none and `add_generation_prompt` is false
  /// unless given. A message's reasoning is provided under all names that templates use for it.
  public func render(
    _ variables: JSON, now: Date?, limits: Limits
  ) throws(ChatTemplateError) -> String {
    guard case .object(var all) = variables else {
      throw .evaluation(line: 1, "the variables of a template are an object")
    }
    for name in ["tools", "documents"] where all[name] == nil { all[name] = .null }
    if all["add_generation_prompt"] == nil { all["add_generation_prompt"] = false }
    if case .array(let messages)? = all["messages"] {
      all["messages"] = .array(messages.map(Self.namingReasoning))
    }
    let interpreter = TemplateInterpreter(limits: limits, now: now)
    return try interpreter.render(statements, variables: all)
  }

  /// A message with its reasoning under `thinking`, first, and under `reasoning_content`.
  private static func namingReasoning(_ message: JSON) -> JSON {
    guard case .object(let members) = message else { return message }
    let names = ["reasoning_content", "thinking", "reasoning"]
    guard
      let reasoning = names.lazy.compactMap({ members[$0] }).first(where: { !$0.isNull })
    else { return message }
    var named = JSONObject()
    named["thinking"] = reasoning
    for (name, value) in members { named[name] = value }
    named["reasoning_content"] = reasoning
    return .object(named)
  }
}
