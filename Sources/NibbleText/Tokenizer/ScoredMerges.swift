/// The merges of a byte-pair model whose file has a score for each token in place of merges.
///
/// Every way to join two tokens into a third is a merge; the highest score of the result comes
/// first. Among equal scores longer left sides come first, then longer right sides, then lower ids,
/// as in Hugging Face's conversion.
struct ScoredMerges {
  /// Where a token may be split in two.
  enum Cut {
    case scalars
    case bytes
  }

  /// Longest token in bytes. Every split of every token is looked up, so the time grows with the
  /// square of the length.
  static let tokenLimit = 512
  /// Limit of the sum of squared lengths of all tokens. Published vocabularies stay below a tenth
  /// of it.
  static let workLimit = 1 << 28

  /// The ids of both sides, first merge first.
  private(set) var pairs: [(left: Int, right: Int)] = []

  private struct Merge {
    var result: Int
    var left: Int
    var right: Int
    var leftLength: Int
    var rightLength: Int
  }

  /// - Parameters:
  ///   - tokens: by id, each different.
  ///   - scores: by id, none of them NaN.
  ///   - isText: whether a token results from merges; unknown, control and byte tokens do not.
  init(
    of tokens: [[UInt8]], scores: [Float], cut: Cut, where isText: (Int) -> Bool
  ) throws(TokenizerError) {
    precondition(scores.count == tokens.count, "\(scores.count) scores, \(tokens.count) tokens")
    var ids = ByteTable()
    for (id, token) in tokens.enumerated() where !token.isEmpty { ids.insert(token.span, id) }
    var merges: [Merge] = []
    var work = 0
    for (id, token) in tokens.enumerated() where isText(id) {
      guard token.count <= Self.tokenLimit else {
        throw .tooLong("a token in bytes", length: token.count, limit: Self.tokenLimit)
      }
      work += token.count * token.count
      guard work <= Self.workLimit else {
        throw .tooLong(
          "the sum of the squared lengths of all tokens", length: work, limit: Self.workLimit)
      }
      let span = token.span
      func isCut(_ at: Int) -> Bool { cut == .bytes || token[at] & 0xC0 != 0x80 }
      let total = token.indices.count(where: isCut)
      var leftLength = 0
      for at in token.indices.dropFirst() where isCut(at) {
        leftLength += 1
        guard let left = ids.value(for: span.extracting(0..<at)),
          let right = ids.value(for: span.extracting(at..<token.count))
        else { continue }
        merges.append(
          Merge(
            result: id, left: left, right: right, leftLength: leftLength,
            rightLength: total - leftLength))
      }
    }
    merges.sort { a, b in
      let (x, y) = (scores[a.result], scores[b.result])
      if x != y { return x > y }
      return (-a.leftLength, -a.rightLength, a.result, a.left, a.right)
        < (-b.leftLength, -b.rightLength, b.result, b.left, b.right)
    }
    pairs = merges.map { ($0.left, $0.right) }
  }
}
