import NibbleTensor

/// Guesses the next tokens from the text so far: what followed its last words the last time they stood
/// there. The guess is read together with the token before it, and kept as far as the model would have
/// chosen it, so that one reading of the weights can give several tokens.
///
/// Source: prompt lookup decoding, github.com/apoorvumang/prompt-lookup-decoding. Ours: the longest
/// ending that stood there before counts, and of its places the latest.
public struct PromptLookup: Hashable, Sendable {
  /// Tokens to guess at most.
  public var tokens: Int
  /// Tokens of the ending that is looked for.
  public var longestEnding = 4
  public var shortestEnding = 2

  public init(tokens: Int) { self.tokens = tokens }

  /// Guesses that a model which rounds its activations may be given: they and the token before them are
  /// computed as each alone.
  public static let mostRounded = Compute.stepTokens - 1

  /// Why the text could be another one, in words; nil when it is the same.
  ///
  /// Many tokens at once give the sums of one by one but for their last bits. In float that decides
  /// nothing unless two tokens tie; where inputs are rounded to codes, one bit can move a code, and
  /// that a choice.
  func fault(_ decoder: Decoder) -> String? {
    let weights = decoder.blocks.flatMap { $0.linears.values.map(\.weight) } + [decoder.head]
    let rounds = weights.contains { weight in
      guard case .quantized(_, let inputs) = weight else { return false }
      return inputs != nil
    }
    guard rounds, tokens > Self.mostRounded else { return nil }
    return
      "prompt lookup of \(tokens) tokens keeps the text of a model whose activations stay float; "
      + "this one rounds them. Use --prompt-lookup \(Self.mostRounded), or --activations float where "
      + "the scheme leaves the choice."
  }

  /// What may follow `history`; empty when its ending is new.
  func guess(after history: [Int], atMost room: Int) -> [Int] {
    let count = min(tokens, room)
    guard count > 0, history.count > shortestEnding else { return [] }
    var best: (length: Int, next: Int)?
    for next in stride(from: history.count - 1, through: shortestEnding, by: -1) {
      let length = ending(of: history, before: next)
      if length >= shortestEnding, length > best?.length ?? 0 { best = (length, next) }
      if length == longestEnding { break }
    }
    return best.map { Array(history[$0.next..<min(history.count, $0.next + count)]) } ?? []
  }

  /// How many tokens before `next` are the last tokens of `history`.
  private func ending(of history: [Int], before next: Int) -> Int {
    var length = 0
    while length < min(longestEnding, next),
      history[next - 1 - length] == history[history.count - 1 - length]
    { length += 1 }
    return length
  }
}

/// Tokens that were read before the model chose them, and what it says after each.
struct TokensAhead {
  /// What was guessed after the token that was read for certain.
  private let guess: [Int]
  /// `[guess.count + 1, vocabulary]`
  private let logits: [Float]
  private var accepted = 0

  init(_ guess: [Int], logits: [Float]) {
    self.guess = guess
    self.logits = logits
  }

  /// Logits after the last accepted token.
  var row: [Float] {
    let vocabulary = logits.count / (guess.count + 1)
    return Array(logits[accepted * vocabulary..<(accepted + 1) * vocabulary])
  }

  /// Whether the model's choice was guessed; then `row` is what follows it.
  mutating func accept(_ token: Int) -> Bool {
    guard accepted < guess.count, guess[accepted] == token else { return false }
    accepted += 1
    return true
  }
}
