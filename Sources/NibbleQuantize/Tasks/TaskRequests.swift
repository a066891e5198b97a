public import NibbleText

/// The tokens of a task's requests, as lm-eval makes them.
/// Source: lm-eval 0.4.13, `_encode_pair` and `loglikelihood` of `api/model.py`.
public struct TaskRequests: Sendable {
  /// Which special tokens stand around a text.
  public enum SpecialTokens: Sendable, Hashable {
    /// Those of the tokenizer's own rule.
    case tokenizer
    case none
    /// These before it.
    case before([Int])
  }

  /// Tokens of a context and its continuation.
  struct Tokens: Sendable, Hashable {
    /// Input of the model: all but the last token.
    var input: [Int]
    /// The continuation: what the last positions of the input predict.
    var targets: [Int]

    /// Positions of the input that predict the targets.
    var scored: Range<Int> { input.count - targets.count..<input.count }
  }

  public let task: EvaluationTask
  /// Number of requests whose beginning was left out, since they are longer than the model's context.
  public private(set) var truncated = 0
  /// The largest number of tokens of an input.
  private(set) var longest = 0
  private let encoder: PairEncoder
  private let limit: Int

  /// Encodes every request once, so that an item that cannot be scored is found before the work.
  ///
  /// - Parameter limit: the largest number of tokens that the model reads at once.
  public init(
    _ task: EvaluationTask, with tokenizer: Tokenizer, special: SpecialTokens = .tokenizer,
    limit: Int
  ) throws(TaskError) {
    precondition(limit > 0, "a limit of \(limit) tokens")
    self.task = task
    self.limit = limit
    encoder = PairEncoder(tokenizer, special)
    for index in task.items.indices {
      let (tokens, cut) = try encode(index)
      truncated += cut
      longest = max(longest, tokens.map(\.input.count).max() ?? 0)
    }
  }

  /// The tokens of an item's requests.
  func tokens(of index: Int) -> [Tokens] {
    guard let (tokens, _) = try? encode(index) else {
      preconditionFailure("item \(index) was encoded before")
    }
    return tokens
  }

  /// The tokens of an item's requests, and how many of them are truncated.
  private func encode(_ index: Int) throws(TaskError) -> (tokens: [Tokens], truncated: Int) {
    let item = task.items[index]
    var (tokens, truncated): ([Tokens], Int) = ([], 0)
    for (choice, request) in item.requests.enumerated() {
      do throws(PairFault) {
        let pair = try encoder.encode(task.preamble + request.context, request.continuation)
        guard pair.targets.count <= limit else {
          throw PairFault(
            reason: "its \(pair.targets.count) tokens are over the \(limit) that the model reads")
        }
        let whole = pair.context + pair.targets
        if whole.count > limit + 1 { truncated += 1 }
        tokens.append(Tokens(input: whole.suffix(limit + 1).dropLast(), targets: pair.targets))
      } catch {
        throw .unscorable(item.place, choice: choice + 1, reason: error.reason)
      }
    }
    return (tokens, truncated)
  }
}

/// Why a request scores nothing.
private struct PairFault: Error {
  var reason: String
}

/// Cuts a request's tokens into those of its context and those of its continuation.
private struct PairEncoder: Sendable {
  private let tokenizer: Tokenizer
  private let special: TaskRequests.SpecialTokens
  /// The context of a continuation without one: the beginning-of-text token, else the end-of-text
  /// token.
  private let prefix: Int?
  private let prefixText: String?

  init(_ tokenizer: Tokenizer, _ special: TaskRequests.SpecialTokens) {
    self.tokenizer = tokenizer
    self.special = special
    prefix = tokenizer.bos ?? tokenizer.eos
    prefixText = prefix.flatMap { tokenizer.token($0) }
  }

  /// The tokens of the context, and those of the whole text after as many as the context has.
  ///
  /// Where a merge crosses the border, the two do not spell the whole text: the context keeps its own
  /// last token, as in lm-eval.
  func encode(
    _ context: String, _ continuation: String
  ) throws(PairFault) -> (context: [Int], targets: [Int]) {
    guard !context.isEmpty else { return try encodeAlone(continuation) }
    let whole = encode(context + continuation)
    // White space at the end of the context belongs to the continuation.
    let before = encode(context.stripped(left: false))
    guard !before.isEmpty else {
      throw PairFault(reason: "its context is white space only; leave the context empty")
    }
    guard whole.count > before.count else {
      throw PairFault(
        reason: "it adds no token to its context, so there is nothing to score")
    }
    return (before, Array(whole[before.count...]))
  }

  private func encodeAlone(_ text: String) throws(PairFault) -> (context: [Int], targets: [Int]) {
    guard let prefix else {
      throw PairFault(
        reason: "its context is empty, and the tokenizer names no beginning or end of a text")
    }
    var targets = tokenizer.encode(text)
    if targets.first == prefix { targets.removeFirst() }
    guard !targets.isEmpty else {
      throw PairFault(reason: "it has no tokens, so there is nothing to score")
    }
    return ([prefix], targets)
  }

  private func encode(_ text: String) -> [Int] {
    // A text that begins with the token's spelling has it already.
    if let prefixText, text.utf8.starts(with: prefixText.utf8) { return tokenizer.encode(text) }
    return switch special {
    case .tokenizer: tokenizer.encode(text, addSpecialTokens: true)
    case .none: tokenizer.encode(text)
    case .before(let tokens): tokens + tokenizer.encode(text)
    }
  }
}
