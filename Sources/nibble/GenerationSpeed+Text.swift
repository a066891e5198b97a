import NibbleFormats
import NibbleModel

extension GenerationSpeed {
  /// For standard error.
  var text: String {
    var text = "\(tokens) tokens"
    if let rate = tokensPerSecond { text += ", \(Terminal.number(rate, 1)) a second" }
    text +=
      "; the first after \(Terminal.number(firstToken / .seconds(1), 3)) s, with \(readTokens) of "
      + "\(promptTokens) tokens of the prompt to read"
    if guessed > 0 { text += "; \(guessedRight) of \(guessed) guesses held" }
    return text
  }
}

extension JSON {
  mutating func add(_ speed: GenerationSpeed) {
    set("read_tokens", JSON(speed.readTokens))
    set("first_token_seconds", .number(speed.firstToken / .seconds(1)))
    set("tokens_per_second", speed.tokensPerSecond.map { .number($0) } ?? .null)
    if speed.guessed > 0 {
      set("guessed_tokens", JSON(speed.guessed))
      set("guessed_right", JSON(speed.guessedRight))
    }
  }
}
