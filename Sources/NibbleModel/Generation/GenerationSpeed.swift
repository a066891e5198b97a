/// Durations and token counts of the last answer.
public struct GenerationSpeed: Hashable, Sendable {
  /// Tokens of the prompt.
  public var promptTokens = 0
  /// Prompt tokens that had not been read before.
  public var readTokens = 0
  /// Time until the first token was chosen.
  public var firstToken = Duration.zero
  /// Tokens chosen, including one that ended the text.
  public var tokens = 0
  /// Time from the first token to the end of the answer.
  public var rest = Duration.zero
  /// Tokens guessed by prompt lookup, and how many of them the model chose.
  public var guessed = 0
  public var guessedRight = 0

  public init() {}

  /// Decode speed after the first token, tokens per second; nil when there was only one.
  public var tokensPerSecond: Double? {
    tokens > 1 && rest > .zero ? Double(tokens - 1) / (rest / .seconds(1)) : nil
  }
}
