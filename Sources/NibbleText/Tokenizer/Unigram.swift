internal import NibbleFormats

/// A unigram language model: chooses the split of the text into tokens with the highest sum of log
/// probabilities (Viterbi).
///
/// Source: Kudo, arXiv 1804.10959. As in Hugging Face's code an unknown character costs 10 more than
/// the least likely token, sums are doubles, a tie keeps the split found first, and neighbouring
/// unknown characters become one token.
struct Unigram: Sendable {
  private var vocabulary: Vocabulary
  private var scores: [Double]
  private var unknown: Int
  /// `[256]`, or empty without byte fallback.
  private var byteTokens: [Int32?]
  /// node << 8 | byte -> node; the root is node 0.
  private var edges = IntegerTable()
  /// The token that ends at a node; -1 when none does.
  private var ends: [Int32] = [-1]
  private let unknownScore: Double

  static let tokenLimit = 4096

  init(_ model: TokenizerSection) throws(TokenizerError) {
    let entries = try model.sections("vocab")
    scores = []
    vocabulary = Vocabulary()
    for (id, entry) in entries.enumerated() {
      guard let pair = entry.json.array, pair.count == 2, let token = pair[0].string,
        let score = pair[1].double
      else { throw .wrongKind(entry.path, expected: "a token and a score") }
      try vocabulary.add(Array(token.utf8), id: id)
      scores.append(score)
    }
    unknown = try model.integer("unk_id")
    guard scores.indices.contains(unknown) else {
      throw .badIdentifier(unknown, token: "unk_id", reason: "has no entry in \(model.path).vocab")
    }
    unknownScore = (scores.min() ?? 0) - 10
    byteTokens =
      try model.bool("byte_fallback", default: false) ? ByteFallback.tokens(of: vocabulary) : []
    for id in scores.indices { try addToTrie(id) }
  }

  var tokens: Vocabulary { vocabulary }

  private mutating func addToTrie(_ id: Int) throws(TokenizerError) {
    guard let token = vocabulary.token(id) else { return }
    guard token.count <= Self.tokenLimit else {
      throw .tooLong("a unigram token", length: token.count, limit: Self.tokenLimit)
    }
    var node = 0
    for byte in token {
      let key = UInt64(node) << 8 | UInt64(byte)
      if let known = edges.value(for: key) {
        node = Int(known)
      } else {
        node = ends.count
        ends.append(-1)
        edges.set(UInt64(node), for: key)
      }
    }
    ends[node] = Int32(id)
  }

  private struct Step {
    var score = 0.0
    var start = -1
    var id = -1
  }

  func encode(_ word: borrowing Span<UInt8>, into ids: inout [Int]) {
    let best = bestSteps(word)
    var pieces: [(range: Range<Int>, id: Int)] = []
    var end = word.count
    while end > 0, best[end].start >= 0 {
      let step = best[end]
      if step.id == unknown, let last = pieces.last, last.id == unknown {
        pieces[pieces.count - 1].range = step.start..<last.range.upperBound
      } else {
        pieces.append((step.start..<end, step.id))
      }
      end = step.start
    }
    for piece in pieces.reversed() {
      if piece.id != unknown {
        ids.append(piece.id)
      } else {
        appendUnknown(word.extracting(piece.range), into: &ids)
      }
    }
  }

  private func bestSteps(_ word: borrowing Span<UInt8>) -> [Step] {
    var best = [Step](repeating: Step(), count: word.count + 1)
    var start = 0
    while start < word.count {
      let character = start + word.scalar(at: start).length
      let reached = best[start].score
      var coversCharacter = false
      var node = 0
      var at = start
      while at < word.count, let child = edges.value(for: UInt64(node) << 8 | UInt64(word[at])) {
        node = Int(child)
        at += 1
        guard ends[node] >= 0 else { continue }
        let score = reached + scores[Int(ends[node])]
        if best[at].start < 0 || score > best[at].score {
          best[at] = Step(score: score, start: start, id: Int(ends[node]))
        }
        if at == character { coversCharacter = true }
      }
      let score = reached + unknownScore
      if !coversCharacter, best[character].start < 0 || score > best[character].score {
        best[character] = Step(score: score, start: start, id: unknown)
      }
      start = character
    }
    return best
  }

  private func appendUnknown(_ text: borrowing Span<UInt8>, into ids: inout [Int]) {
    if let id = vocabulary.id(of: text) {
      ids.append(id)
      return
    }
    var bytes: [Int] = []
    if !byteTokens.isEmpty {
      for at in text.indices {
        if let id = byteTokens[Int(text[at])] { bytes.append(Int(id)) }
      }
    }
    ids += bytes.count == text.count ? bytes : [unknown]
  }
}
