public import NibbleModel
public import NibbleTensor

/// Definition of perplexity: which tokens are scored, and with which context.
public enum PerplexityDefinition: String, Sendable, Hashable, Codable, CaseIterable {
  /// Non-overlapping, independent windows; every token but a window's first is scored.
  case windows
  /// llama.cpp's `perplexity`: the first token of each window is replaced by the beginning-of-text
  /// token if the tokenizer adds one, and only the second half of each window is scored.
  case llamaCpp = "llama.cpp"

  /// - Parameter beginning: whether the beginning-of-text token stands before each window.
  public func explanation(beginning: Bool) -> String {
    switch self {
    case .windows where beginning:
      "exp of the mean of -log p over all tokens but the first of each non-overlapping window; text "
        + "tokenized once, with BOS before each window and beside its count, the tail dropped"
    case .windows:
      "exp of the mean of -log p over all tokens but the first of each non-overlapping window; "
        + "text tokenized once, no beginning-of-text token added, the tail dropped"
    case .llamaCpp:
      "llama.cpp: exp of the mean of -log p over the second half of each non-overlapping window; "
        + "the window's first token replaced by the beginning-of-text token if the tokenizer adds one"
    }
  }
}

/// The part of a text that is scored.
public struct EvaluationWindows: Sendable, Hashable {
  /// Tokens per window, at least 2.
  public var length = 2048
  /// Maximum number of windows; nil for all.
  public var count: Int?
  /// Number of windows skipped at the start.
  public var skip = 0
  public var definition = PerplexityDefinition.windows
  /// The first token of each window under `llama.cpp`.
  public var beginningOfText: Int?
  /// Tokens before each window under the definition `windows`. They are read but not scored, and do
  /// not count in its length, so the same tokens are scored with and without them.
  public var beginning: [Int] = []

  public init() {}

  /// The windows of a text's tokens.
  public func cut(_ tokens: [Int]) throws(ModelError) -> [[Int]] {
    try ranges(of: tokens.count).map { range in
      var window = before + tokens[range]
      if definition == .llamaCpp, let beginningOfText { window[0] = beginningOfText }
      return window
    }
  }

  /// The tokens of each window in a text of `count` tokens.
  public func ranges(of count: Int) throws(ModelError) -> [Range<Int>] {
    guard length >= 2 else {
      throw .unsupported("a window of \(length) scores nothing; use 2 or more")
    }
    let available = count / length
    guard available > skip else {
      throw .unsupported(
        "the text has \(count) tokens, that is \(available) windows of \(length), and \(skip) "
          + "are skipped. Use a longer text or a shorter --window.")
    }
    let last = skip + min(self.count ?? available, available - skip)
    return (skip..<last).map { $0 * length..<($0 + 1) * length }
  }

  /// Tokens before each window.
  public var before: [Int] { definition == .windows ? beginning : [] }

  /// Tokens per window, those before it included.
  var capacity: Int { before.count + length }

  /// Positions whose next token is scored.
  var scored: Range<Int> {
    definition == .llamaCpp ? length / 2..<length - 1 : before.count..<capacity - 1
  }
}

/// Measured quality of a model on a text, by itself or against another model.
public struct Evaluation: Sendable, Hashable {
  public var definition: PerplexityDefinition
  /// Whether a beginning-of-text token stood before each window.
  public var beginning: Bool
  public var windowLength: Int
  public var windows: Int
  public var skipped: Int
  /// Number of tokens whose prediction was scored.
  public var scoredTokens: Int
  public var perplexity: Double
  public var comparison: Comparison?

  /// Comparison with the base model: means over the scored tokens.
  public struct Comparison: Sendable, Hashable, Codable {
    /// Kullback-Leibler divergence from the base, nats per token.
    public var kl: Double
    /// Share of tokens on which both models rank the same token first.
    public var top1: Double
    public var basePerplexity: Double
    public var divergence: Divergence?
  }
}

extension Evaluation {
  /// Scores `tokens` with a model, and compares it with `base` when given.
  ///
  /// - Parameters:
  ///   - kinds: kinds of text of the windows, for the comparison; nil when unknown.
  ///   - format: format of the KV cache of the model; `base` is not affected.
  ///   - scales: calibrated scales of the cache, per block; used when they are for `format`.
  public init(
    _ decoder: Decoder, against base: Decoder? = nil, tokens: [Int], windows: EvaluationWindows,
    kinds: TextKinds? = nil, keeping format: CacheFormat = .f32, scales: [KeyValueScales]? = nil,
    on compute: Compute, progress: (_ done: Int, _ of: Int, _ perplexity: Double) -> Void
  ) throws(ModelError) {
    let cut = try windows.cut(tokens)
    var session = try Session(
      decoder, capacity: windows.capacity, keeping: format, scales: scales, on: compute)
    var other: Session? =
      if let base { try Session(base, capacity: windows.capacity, on: compute) } else { nil }
    var meter = LossMeter(kinds: kinds)
    let scored = windows.scored
    for (index, window) in cut.enumerated() {
      session.truncate(to: 0)
      other?.truncate(to: 0)
      let states = try session.states(after: window)
      if let baseStates = try other?.states(after: window) {
        other?.compare(
          &session, states, to: baseStates, window: window, index: index, scored, on: compute,
          into: &meter)
      } else {
        for start in stride(from: scored.lowerBound, to: scored.upperBound, by: lossRows) {
          let part = start..<min(start + lossRows, scored.upperBound)
          meter.add(session.losses(states, part, targets: part.map { window[$0 + 1] }))
        }
      }
      guard meter.isFinite else {
        throw .nonFiniteLogits(place: "in window \(index + 1) of \(cut.count)")
      }
      progress(index + 1, cut.count, meter.perplexity)
    }
    definition = windows.definition
    beginning = windows.definition == .windows && !windows.beginning.isEmpty
    windowLength = windows.length
    self.windows = cut.count
    skipped = windows.skip
    scoredTokens = meter.count
    perplexity = meter.perplexity
    comparison = base == nil ? nil : meter.comparison
  }
}

extension Evaluation {
  /// The resolution of a comparison: a model against itself, computed in another way.
  ///
  /// The second run uses another precision and reads each window in two parts, so that its products
  /// have other shapes and add in another order. A difference between models below three times
  /// this is no result.
  ///
  /// - Parameters:
  ///   - compute: for the run that is compared with, as in a comparison with another model.
  ///   - changed: for the second run.
  public static func noiseFloor(
    of decoder: Decoder, tokens: [Int], windows: EvaluationWindows, on compute: Compute,
    changed: Compute, progress: (_ done: Int, _ of: Int) -> Void
  ) throws(ModelError) -> Comparison {
    let cut = try windows.cut(tokens)
    var session = try Session(decoder, capacity: windows.capacity, on: changed)
    var base = try Session(decoder, capacity: windows.capacity, on: compute)
    var meter = LossMeter()
    for (index, window) in cut.enumerated() {
      session.truncate(to: 0)
      base.truncate(to: 0)
      let half = window.count / 2
      let first = try session.states(after: Array(window[..<half]))
      let states = first + (try session.states(after: Array(window[half...])))
      let baseStates = try base.states(after: window)
      base.compare(
        &session, states, to: baseStates, window: window, index: index, windows.scored, on: compute,
        into: &meter)
      guard meter.isFinite else {
        throw .nonFiniteLogits(place: "in window \(index + 1) of \(cut.count)")
      }
      progress(index + 1, cut.count)
    }
    guard let comparison = meter.comparison else {
      throw .unsupported("a window of \(windows.length) scores nothing; use a longer --window")
    }
    return comparison
  }
}

extension Session {
  /// Compares another model with this one at some positions of a window.
  ///
  /// - Parameters:
  ///   - other: the other model; `otherStates` are its hidden states of the window.
  ///   - states: this model's hidden states of the window.
  ///   - scored: the positions.
  fileprivate mutating func compare(
    _ other: inout Session, _ otherStates: [Float], to states: [Float], window: [Int], index: Int,
    _ scored: Range<Int>, on compute: Compute, into meter: inout LossMeter
  ) {
    for start in stride(from: scored.lowerBound, to: scored.upperBound, by: logitRows) {
      let part = start..<min(start + logitRows, scored.upperBound)
      var rows: [TokenComparison] = []
      other.withLogits(otherStates, part) { logits in
        withLogits(states, part) { base in
          rows = compute.compare(
            logits.span, to: base.span, targets: part.map { window[$0 + 1] })
        }
      }
      meter.add(rows, window: index, from: start)
    }
  }
}

/// Rows whose losses are computed at once.
private let lossRows = 4096
