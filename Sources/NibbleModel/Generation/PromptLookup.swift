import NibbleTensor

/// Guesses the next tokens from the text so far: the tokens that followed the last earlier
/// occurrence of its ending. The guess is read together with the token before it and kept as far as
/// the model chooses the same tokens, so one pass over the weights can give several tokens.
///
/// Source: prompt lookup decoding, github.com/apoorvumang/prompt-lookup-decoding. Ours: the longest
/// ending that occurred before is used, at its latest place.
public struct PromptLookup: Hashable, Sendable {
  /// Largest number of tokens to guess.
  public var tokens: Int
  /// Longest and shortest ending to look for, in tokens.
  public var longestEnding = 4
  public var shortestEnding = 2

  public init(tokens: Int) { self.tokens = tokens }

  /// Largest number of guesses for a model with quantized activations or a quantized cache: more would
  /// use kernels that add in another order and could change the text.
  public static let mostRounded = Compute.stepTokens - 1

  /// Message that says why the text could change; nil when it cannot.
  ///
  /// Reading many tokens at once gives the same sums as one by one, up to their last bits. In float
  /// this matters only when two tokens tie. Where inputs are rounded to codes, one bit can change a
  /// code and then a token.
  func fault(_ decoder: Decoder, keeping format: CacheFormat) -> String? {
    if decoder.shape.isRecurrent {
      return
        "prompt lookup takes back the tokens that it guessed wrong, and blocks of "
        + "\(decoder.shape.family) keep a state that cannot go back. Leave --prompt-lookup out."
    }
    let weights = decoder.blocks.flatMap { $0.linears.values.map(\.weight) } + [decoder.head]
    let rounds = weights.contains { weight in
      guard case .quantized(_, let inputs) = weight else { return false }
      return inputs != nil
    }
    guard tokens > Self.mostRounded else { return nil }
    if rounds {
      return
        "prompt lookup of \(tokens) tokens keeps the text of a model whose activations stay float; "
        + "this one rounds them. Use --prompt-lookup \(Self.mostRounded), or --activations float "
        + "where the scheme leaves the choice."
    }
    guard format != .f32, format != .f16 else { return nil }
    return
      "prompt lookup of \(tokens) tokens keeps the text while keys and values stay float; an "
      + "\(format.rawValue) cache rounds them. Use --prompt-lookup \(Self.mostRounded), or --kv f16."
  }

  /// The guess for the tokens after `history`; empty when its ending did not occur before.
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

  /// How many tokens before `next` match the last tokens of `history`.
  private func ending(of history: [Int], before next: Int) -> Int {
    var length = 0
    while length < min(longestEnding, next),
      history[next - 1 - length] == history[history.count - 1 - length]
    { length += 1 }
    return length
  }
}

/// Guessed tokens that were read ahead, with the logits after each.
struct TokensAhead {
  /// The guesses after the last chosen token.
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

  /// Whether the model's choice was guessed; `row` is then the logits after it.
  mutating func accept(_ token: Int) -> Bool {
    guard accepted < guess.count, guess[accepted] == token else { return false }
    accepted += 1
    return true
  }
}
