import NibbleTensor
public import NibbleText

/// Number and choice of the token windows that calibration takes from a text.
public struct CalibrationSampling: Hashable, Sendable, Codable {
  public var windows = 4
  /// Tokens per window.
  public var length = 256
  /// 0 takes evenly spaced windows. Any other number seeds a reproducible shuffle of documents and
  /// windows.
  public var seed: UInt64 = 0
  /// Whether a short text may give fewer windows, or one shorter window of at least two tokens.
  public var allowsFewer = false

  public init() {}

  /// Joins the documents with the tokenizer's end-of-text token between them (two line feeds when
  /// it has none), cuts the tokens into consecutive windows, and takes some.
  ///
  /// Text beyond the requested windows is left out.
  ///
  /// - Parameter beginning: tokens before the text of each window, as part of its length.
  public func cut(
    _ text: CalibrationText, with tokenizer: Tokenizer, beginning: [Int] = []
  ) throws(CalibrationTextError) -> CalibrationWindows {
    precondition(
      windows > 0 && length > max(1, beginning.count), "\(windows) windows of \(length)")
    let part = length - beginning.count
    var random = SplitMix64(state: seed)
    let order = random.order(of: text.documents.count, shuffled: seed != 0)
    let separator = tokenizer.eos.map { [$0] } ?? tokenizer.encode("\n\n")
    var tokens: [Int] = []
    var starts: [Int] = []
    for document in order {
      if !starts.isEmpty { tokens += separator }
      starts.append(tokens.count)
      tokens += tokenizer.encode(text.documents[document])
    }
    let available = tokens.count / part
    guard available >= windows || allowsFewer && tokens.count >= 2 else {
      throw .tooFewTokens(
        path: text.path, tokens: tokens.count, windows: windows, length: length)
    }
    let taken = min(windows, max(1, available))
    let drawn =
      seed == 0
      ? (0..<taken).map { $0 * available / taken }
      : Array(random.order(of: max(1, available), shuffled: true).prefix(taken))
    let ranges = drawn.map { $0 * part..<min($0 * part + part, tokens.count) }
    var documents = Set<Int>()
    for range in ranges {
      let first = Self.document(at: range.lowerBound, starts)
      documents.formUnion(first...Self.document(at: range.upperBound - 1, starts))
    }
    return CalibrationWindows(
      windows: ranges.map { beginning + tokens[$0] }, documents: documents.count,
      tokenizer: tokenizer)
  }

  /// The last document that starts at or before `token`.
  private static func document(at token: Int, _ starts: [Int]) -> Int {
    var range = 0..<starts.count
    while range.count > 1 {
      let middle = (range.lowerBound + range.upperBound) / 2
      range =
        starts[middle] <= token
        ? middle..<range.upperBound : range.lowerBound..<middle
    }
    return range.lowerBound
  }
}

extension CalibrationSampling {
  /// Windows of tokens drawn evenly from the vocabulary, after the beginning of a text.
  package func randomWindows(below vocabulary: Int, beginning: [Int]) -> [[Int]] {
    var random = SplitMix64(state: seed)
    return (0..<windows).map { _ in
      beginning
        + (beginning.count..<max(length, beginning.count)).map { _ in
          Int(random.next() % UInt64(max(1, vocabulary)))
        }
    }
  }
}

/// Windows of token ids for calibration, with a description of their contents.
public struct CalibrationWindows: Sendable {
  public let windows: [[Int]]
  public let audit: CalibrationAudit

  /// - Parameter documents: number of documents that the windows come from.
  public init(windows: [[Int]], documents: Int, tokenizer: Tokenizer) {
    self.windows = windows
    audit = CalibrationAudit(windows, documents: documents, tokenizer: tokenizer)
  }
}
