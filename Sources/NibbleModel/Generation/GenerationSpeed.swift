/// How long the last answer took.
public struct GenerationSpeed: Hashable, Sendable {
  /// Tokens of the prompt.
  public var promptTokens = 0
  /// Those of them that had not been read before.
  public var readTokens = 0
  /// Until the first token was chosen.
  public var firstToken = Duration.zero
  /// Tokens chosen, one that ended the text counted.
  public var tokens = 0
  /// From the first token to the end of the answer.
  public var rest = Duration.zero
  /// Tokens that prompt lookup guessed, and those of them that the model chose.
  public var guessed = 0
  public var guessedRight = 0

  public init() {}

  /// Tokens a second after the first one; nil when there was only one.
  public var tokensPerSecond: Double? {
    tokens > 1 && rest > .zero ? Double(tokens - 1) / (rest / .seconds(1)) : nil
  }
}
