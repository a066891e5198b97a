public import NibbleTensor

/// Writes text after a prompt, token by token.
public struct Generator {
  /// Why an answer ended.
  public enum End: String, Sendable, Hashable {
    /// The model chose a token that ends text.
    case endOfText = "end of text"
    case stopString = "stop string"
    case tokenLimit = "token limit"
    /// The caller said so.
    case stopped
  }

  public struct Answer: Sendable, Hashable {
    /// The ids the model chose, the one that ended the text left out.
    public var tokens: [Int]
    public var end: End
  }

  public let tokenizer: Tokenizer
  public private(set) var session: Session
  /// Tokens the session has read.
  public private(set) var history: [Int] = []

  public init(
    _ decoder: Decoder, tokenizer: Tokenizer, capacity: Int, on compute: Compute
  ) throws(ModelError) {
    self.tokenizer = tokenizer
    session = try Session(decoder, capacity: capacity, on: compute)
  }

  /// Continues `prompt`, whose common start with what was read before is not read again.
  ///
  /// - Parameters:
  ///   - stops: texts that end the answer and are not part of it.
  ///   - emit: called with pieces of text that never split a character; false ends the answer.
  public mutating func answer(
    to prompt: [Int], limit: Int, sampling: Sampling, stops: [String] = [],
    emit: (String) -> Bool
  ) throws(ModelError) -> Answer {
    if let fault = sampling.fault { throw .unsupported("\(fault)") }
    guard !prompt.isEmpty else { throw .unsupported("the prompt has no tokens") }
    var logits = try read(prompt)
    var sampler = Sampler(sampling)
    var text = StopFilter(stops: stops)
    var decoder = Tokenizer.StreamDecoder(tokenizer, skipSpecialTokens: true)
    var tokens: [Int] = []
    let ends = Set(session.decoder.config.endOfText + [tokenizer.eos].compactMap(\.self))
    var end = End.tokenLimit
    while tokens.count < limit {
      let token = sampler.choose(logits, history: history)
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
      guard tokens.count < limit else { break }
      logits = try session.append([token])
      history.append(token)
    }
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
    let logits = try session.append(Array(prompt[session.count...]))
    history = prompt
    return logits
  }
}

/// Holds back text that may be the start of a stop string.
struct StopFilter {
  let stops: [String]
  private var held = ""
  private(set) var isStopped = false

  init(stops: [String]) { self.stops = stops.filter { !$0.isEmpty } }

  /// Text that can be shown now.
  mutating func append(_ piece: String) -> String {
    guard !isStopped else { return "" }
    guard !stops.isEmpty else { return piece }
    held += piece
    let found = stops.compactMap { held.firstRange(of: $0)?.lowerBound }.min()
    if let found {
      isStopped = true
      return String(held[..<found])
    }
    let keep = longestStart()
    let shown = String(held.dropLast(keep))
    held = String(held.suffix(keep))
    return shown
  }

  /// What was held back, when the text ends.
  mutating func flush() -> String {
    defer { held = "" }
    return isStopped ? "" : held
  }

  /// Characters at the end of `held` that begin a stop string.
  private func longestStart() -> Int {
    let longest = stops.map(\.count).max() ?? 0
    for length in stride(from: min(longest, held.count), to: 0, by: -1)
    where stops.contains(where: { $0.hasPrefix(held.suffix(length)) }) { return length }
    return 0
  }
}
