public import NibbleTensor
public import NibbleText

/// Writes text after a prompt, token by token. Not copyable, as its session is not.
public struct Generator: ~Copyable {
  /// The reason why an answer ended.
  public enum End: String, Sendable, Hashable {
    /// The model chose a token that ends text.
    case endOfText = "end of text"
    case stopString = "stop string"
    /// The requested limit was reached, or the context is full.
    case tokenLimit = "token limit"
    /// The caller stopped it.
    case stopped
  }

  public struct Answer: Sendable, Hashable {
    /// The ids that the model chose, without the one that ended the text.
    public var tokens: [Int]
    public var end: End
  }

  public let tokenizer: Tokenizer
  public private(set) var session: Session
  /// Tokens the session has read.
  public private(set) var history: [Int] = []
  /// Speed of the last answer.
  public private(set) var speed = GenerationSpeed()
  /// Guesses tokens ahead; nil reads each token by itself. The text is the same either way.
  public var promptLookup: PromptLookup?
  private var ahead: TokensAhead?

  public init(
    _ decoder: Decoder, tokenizer: Tokenizer, capacity: Int, keeping format: CacheFormat = .f32,
    scales: [KeyValueScales]? = nil, on compute: Compute
  ) throws(ModelError) {
    self.tokenizer = tokenizer
    session = try Session(
      decoder, capacity: capacity, keeping: format, scales: scales, on: compute)
  }

  /// Continues `prompt`. The prefix that it shares with tokens read before is not read again.
  ///
  /// - Parameters:
  ///   - stops: texts that end the answer and are not part of it.
  ///   - emit: called with pieces of text that never split a character; false ends the answer.
  public mutating func answer(
    to prompt: [Int], limit: Int, sampling: Sampling, stops: [String] = [],
    emit: (String) -> Bool
  ) throws(ModelError) -> Answer {
    if let fault = sampling.fault { throw .unsupported("\(fault)") }
    if let fault = promptLookup?.fault(session.decoder, keeping: session.format) {
      throw .unsupported(fault)
    }
    guard !prompt.isEmpty else { throw .unsupported("the prompt has no tokens") }
    let clock = ContinuousClock()
    let start = clock.now
    speed = GenerationSpeed()
    var logits = try read(prompt)
    var sampler = Sampler(sampling)
    var text = StopFilter(stops: stops)
    var decoder = Tokenizer.StreamDecoder(tokenizer, skipSpecialTokens: true)
    var tokens: [Int] = []
    let ends = Set(session.decoder.shape.endOfText + [tokenizer.eos].compactMap(\.self))
    var end = End.tokenLimit
    while tokens.count < limit {
      let token = sampler.choose(logits, history: history)
      if speed.tokens == 0 { speed.firstToken = clock.now - start }
      speed.tokens += 1
      if ends.contains(token) {
        end = .endOfText
        break
      }
      tokens.append(token)
      let piece = text.append(decoder.append(token))
      if !piece.isEmpty, !emit(piece) {
        end = .stopped
        break
      }
      if text.isStopped {
        end = .stopString
        break
      }
      guard tokens.count < limit, history.count + 1 < session.capacity else { break }
      // The session reuses this memory for the next logits.
      logits = []
      logits = try advance(token)
    }
    speed.rest = clock.now - start - speed.firstToken
    if end != .stopString, end != .stopped {
      let rest = text.append(decoder.flush()) + text.flush()
      if !rest.isEmpty { _ = emit(rest) }
    }
    return Answer(tokens: tokens, end: end)
  }

  private mutating func read(_ prompt: [Int]) throws(ModelError) -> [Float] {
    let common = zip(history, prompt).prefix { $0 == $1 }.count
    let kept = min(common, prompt.count - 1)
    session.truncate(to: min(kept, session.count))
    (speed.promptTokens, speed.readTokens) = (prompt.count, prompt.count - session.count)
    ahead = nil
    let logits = try session.append(Array(prompt[session.count...]))
    history = prompt
    return logits
  }

  /// Logits after one more token, which prompt lookup may have read ahead.
  private mutating func advance(_ token: Int) throws(ModelError) -> [Float] {
    history.append(token)
    if ahead?.accept(token) == true, let row = ahead?.row {
      speed.guessedRight += 1
      return row
    }
    session.truncate(to: history.count - 1)
    ahead = nil
    let room = session.capacity - history.count
    let guess = promptLookup?.guess(after: history, atMost: room) ?? []
    // The token, after those that the cache had to remove with wrong guesses.
    let unread = Array(history[session.count...])
    guard !guess.isEmpty else { return try session.append(unread) }
    speed.guessed += guess.count
    let states = try session.states(after: unread + guess)
    var next = TokensAhead(guess, logits: [])
    var areFinite = true
    session.withLogits(states, unread.count - 1..<unread.count + guess.count) {
      next = TokensAhead(guess, logits: $0)
      areFinite = $0.areFinite
    }
    guard areFinite else {
      throw .nonFiniteLogits(place: "after token \(history.count) or one that was guessed")
    }
    ahead = next
    return next.row
  }
}
