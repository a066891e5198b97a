/// What a bench measures.
public struct BenchSettings: Hashable, Sendable {
  /// Tokens of the prompt that is read at once.
  public var promptTokens: Int
  /// Tokens that are written one by one.
  public var decodeTokens: Int
  /// Tokens that stand before the first one written.
  public var context: Int

  public init(promptTokens: Int = 512, decodeTokens: Int = 128, context: Int = 0) {
    self.promptTokens = promptTokens
    self.decodeTokens = decodeTokens
    self.context = context
  }

  /// Positions that a session needs.
  public var capacity: Int { max(promptTokens, context + decodeTokens) + 1 }

  /// What makes no sense, in words.
  public var fault: String? {
    for (name, value, least) in [
      ("prompt tokens", promptTokens, 1), ("decode tokens", decodeTokens, 1),
      ("tokens of context", context, 0),
    ] where !(least...1 << 22).contains(value) {
      return "\(value) \(name); use \(least) to \(1 << 22)"
    }
    return nil
  }

  /// Pseudo-random ids: what the tokens say changes nothing about how long they take.
  public func tokens(_ count: Int, vocabulary: Int) -> [Int] {
    var random = SplitMix64(state: 1)
    return (0..<count).map { _ in Int(random.next() % UInt64(max(1, vocabulary))) }
  }
}
