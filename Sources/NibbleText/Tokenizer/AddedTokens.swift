internal import NibbleFormats

/// A token that is searched in the text itself, before the model sees it.
struct AddedToken: Sendable {
  var id: Int
  var content: String
  var isSpecial: Bool
  var singleWord: Bool
  var stripsLeft: Bool
  var stripsRight: Bool
  /// Whether it is searched in normalized text, as its normalized content.
  var isNormalized: Bool

  static let lengthLimit = 4096

  init(_ section: TokenizerSection, id: Int) throws(TokenizerError) {
    self.id = id
    content = try section.string("content")
    guard content.utf8.count <= Self.lengthLimit else {
      throw .tooLong(section.path, length: content.utf8.count, limit: Self.lengthLimit)
    }
    isSpecial = try section.bool("special", default: false)
    singleWord = try section.bool("single_word", default: false)
    stripsLeft = try section.bool("lstrip", default: false)
    stripsRight = try section.bool("rstrip", default: false)
    isNormalized = try section.bool("normalized", default: !isSpecial)
  }

  init(special content: String, id: Int) {
    self.id = id
    self.content = content
    isSpecial = true
    singleWord = false
    stripsLeft = false
    stripsRight = false
    isNormalized = false
  }
}

/// A set of added tokens that are searched together: at each place the longest one wins.
struct AddedTokens: Sendable {
  private var tokens: [AddedToken] = []
  /// node << 8 | byte -> node; the root is node 0.
  private var edges = IntegerTable()
  /// Index in `tokens` of the token that ends at a node; -1 for none.
  private var ends: [Int] = [-1]

  var isEmpty: Bool { tokens.isEmpty }

  mutating func add(_ token: AddedToken, spelled spelling: [UInt8]) {
    guard !spelling.isEmpty else { return }
    var node = 0
    for byte in spelling {
      let key = UInt64(node) << 8 | UInt64(byte)
      if let known = edges.value(for: key) {
        node = Int(known)
      } else {
        node = ends.count
        ends.append(-1)
        edges.set(UInt64(node), for: key)
      }
    }
    ends[node] = tokens.count
    tokens.append(token)
  }

  /// A part of a text: an added token, or text between such tokens.
  enum Part {
    case token(Int)
    case text(Range<Int>)
  }

  /// Whether a token is spelled out from `start` on.
  func isSpelled(in text: borrowing Span<UInt8>, at start: Int) -> Bool {
    longest(text, start) != nil
  }

  /// - Parameters:
  ///   - mark: bytes that, directly after a special token, make it plain text.
  ///   - skipsSpecial: whether special tokens are plain text everywhere.
  func split(
    _ text: borrowing Span<UInt8>, mark: [UInt8] = [], skipsSpecial: Bool = false
  ) -> [Part] {
    guard !text.isEmpty else { return [] }
    guard !tokens.isEmpty else { return [.text(0..<text.count)] }
    let starts = (0..<256).map { edges.value(for: UInt64($0)) != nil }
    var parts: [Part] = []
    var done = 0
    var at = 0
    while at < text.count {
      guard starts[Int(text[at])], let (token, found) = longest(text, at) else {
        at += 1
        continue
      }
      if token.isSpecial, skipsSpecial || !mark.isEmpty && Self.follows(mark, text, found) {
        at += 1
        continue
      }
      let match = at..<found
      at = found
      guard let range = accepted(token, match, in: text, after: done) else { continue }
      if range.lowerBound > done { parts.append(.text(done..<range.lowerBound)) }
      parts.append(.token(token.id))
      done = range.upperBound
    }
    if done < text.count { parts.append(.text(done..<text.count)) }
    return parts
  }

  private static func follows(
    _ mark: [UInt8], _ text: borrowing Span<UInt8>, _ at: Int
  ) -> Bool {
    guard at + mark.count <= text.count else { return false }
    for index in mark.indices where text[at + index] != mark[index] { return false }
    return true
  }

  private func longest(_ text: borrowing Span<UInt8>, _ start: Int) -> (AddedToken, Int)? {
    var best: (AddedToken, Int)?
    var node = 0
    var at = start
    while at < text.count, let child = edges.value(for: UInt64(node) << 8 | UInt64(text[at])) {
      node = Int(child)
      at += 1
      if ends[node] >= 0 { best = (tokens[ends[node]], at) }
    }
    return best
  }

  /// The range of a match with the white space it strips; nil when it is only a part of a word.
  private func accepted(
    _ token: AddedToken, _ match: Range<Int>, in text: borrowing Span<UInt8>, after done: Int
  ) -> Range<Int>? {
    var (start, end) = (match.lowerBound, match.upperBound)
    if token.singleWord {
      if start > 0, ScalarClass(text.scalar(before: start).value).isRustWord { return nil }
      if end < text.count, ScalarClass(text.scalar(at: end).value).isRustWord { return nil }
    }
    // White space that an earlier token stripped is skipped.
    start = max(start, done)
    end = max(end, done)
    while token.stripsLeft, start > done {
      let scalar = text.scalar(before: start)
      guard ScalarClass(scalar.value).isSpace else { break }
      start -= scalar.length
    }
    while token.stripsRight, end < text.count {
      let scalar = text.scalar(at: end)
      guard ScalarClass(scalar.value).isSpace else { break }
      end += scalar.length
    }
    return start..<end
  }
}
