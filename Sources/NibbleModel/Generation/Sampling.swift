/// How the next token is chosen from logits.
public struct Sampling: Hashable, Sendable {
  /// Divides the logits; 0 takes the most likely token.
  public var temperature: Float = 0
  /// Keeps this many of the most likely tokens; nil for all.
  public var topK: Int?
  /// Keeps the fewest most likely tokens whose probabilities reach this sum; 1 for all.
  public var topP: Float = 1
  /// Keeps tokens at least this likely, relative to the most likely one; 0 for all.
  public var minP: Float = 0
  /// Positive logits of tokens seen already are divided by this, negative ones multiplied; 1 for
  /// none. Source: CTRL, arXiv 1909.05858, as transformers applies it.
  public var repetitionPenalty: Float = 1
  public var seed: UInt64 = 0

  public init() {}

  /// Message for the first invalid setting; nil when all are valid.
  public var fault: String? {
    if !(temperature >= 0 && temperature.isFinite) {
      return "temperature \(temperature) is below 0"
    }
    if let topK, topK < 1 { return "top-k \(topK) keeps no token" }
    if !(topP > 0 && topP <= 1) { return "top-p \(topP) is not in (0, 1]" }
    if !(minP >= 0 && minP <= 1) { return "min-p \(minP) is not in [0, 1]" }
    if !(repetitionPenalty > 0 && repetitionPenalty.isFinite) {
      return "repetition penalty \(repetitionPenalty) is not above 0"
    }
    return nil
  }
}
