import NibbleTensor

/// Sizes of a bench.
public struct BenchSettings: Hashable, Sendable {
  /// Tokens of the prompt, read at once.
  public var promptTokens: Int
  /// Tokens written one by one.
  public var decodeTokens: Int
  /// Tokens in the cache before the first one is written.
  public var context: Int

  public init(promptTokens: Int = 512, decodeTokens: Int = 128, context: Int = 0) {
    self.promptTokens = promptTokens
    self.decodeTokens = decodeTokens
    self.context = context
  }

  /// Positions that a session needs for these settings.
  public var capacity: Int { max(promptTokens, context + decodeTokens) + 1 }

  /// Message for settings that make no sense; nil when they do.
  public var fault: String? {
    for (name, value, least) in [
      ("prompt tokens", promptTokens, 1), ("decode tokens", decodeTokens, 1),
      ("tokens of context", context, 0),
    ] where !(least...1 << 22).contains(value) {
      return "\(value) \(name); use \(least) to \(1 << 22)"
    }
    return nil
  }

  /// Pseudo-random ids: the time does not depend on which tokens they are.
  public func tokens(_ count: Int, vocabulary: Int) -> [Int] {
    var random = SplitMix64(state: 1)
    return (0..<count).map { _ in Int(random.next() % UInt64(max(1, vocabulary))) }
  }
}
