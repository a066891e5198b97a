/// Text with the pieces that it has been split into so far.
struct SplitText {
  var text: [UInt8]
  /// In order, not empty, without overlap; text between them has been dropped.
  var pieces: [Range<Int>]
  /// Whether `text` begins where the whole input begins.
  var isStart: Bool
}

extension PreTokenizer {
  /// - Parameter rawBytes: whether byte-level steps leave bytes as they are.
  func apply(to split: inout SplitText, rawBytes: Bool) {
    for step in steps {
      switch step {
      case .byteLevel(let prefixesSpace, let splits):
        if prefixesSpace { prefixSpaces(&split) }
        if splits { scan(.gpt2, &split) }
        if !rawBytes { rewrite(&split) { piece, _ in Self.byteLevel(piece) } }
      case .scan(let scanner): scan(scanner, &split)
      case .split(let pattern, let behavior, let inverted):
        cut(&split, behavior, inverted: inverted) { pattern.matches(in: $0, $1) }
      case .cut(let set, let behavior, let inverted):
        cut(&split, behavior, inverted: inverted) { Self.each(set, in: $0, $1) }
      case .words: cut(&split, .removed, inverted: true) { Self.words(in: $0, $1) }
      case .metaspace(let metaspace):
        rewrite(&split) { metaspace.apply($0, isFirst: $1) }
        if metaspace.splits {
          let mark = TextPattern.literal(metaspace.mark)
          cut(&split, .mergedWithNext, inverted: false) { mark.matches(in: $0, $1) }
        }
      }
    }
  }

  private func scan(_ scanner: WordScanner, _ split: inout SplitText) {
    var words: [Range<Int>] = []
    words.reserveCapacity(split.text.count / 4)
    for piece in split.pieces { scanner.split(split.text.span, piece, into: &words) }
    split.pieces = words
  }

  private func cut(
    _ split: inout SplitText, _ behavior: SplitBehavior, inverted: Bool,
    by matches: (borrowing Span<UInt8>, Range<Int>) -> [Range<Int>]
  ) {
    var pieces: [Range<Int>] = []
    for piece in split.pieces {
      let found = matches(split.text.span, piece)
      behavior.split(piece, at: found, inverted: inverted, into: &pieces)
    }
    split.pieces = pieces
  }

  /// Replaces the text of each piece.
  private func rewrite(
    _ split: inout SplitText, _ change: (borrowing Span<UInt8>, Bool) -> [UInt8]
  ) {
    var text: [UInt8] = []
    text.reserveCapacity(split.text.count)
    var pieces: [Range<Int>] = []
    pieces.reserveCapacity(split.pieces.count)
    for piece in split.pieces {
      let start = text.count
      let isFirst = split.isStart && piece.lowerBound == 0
      text += change(split.text.span.extracting(piece), isFirst)
      if text.count > start { pieces.append(start..<text.count) }
    }
    // Pieces keep their order; the first is still the first unless text before it was dropped.
    split.isStart = split.isStart && split.pieces.first?.lowerBound == 0
    split.text = text
    split.pieces = pieces
  }

  private func prefixSpaces(_ split: inout SplitText) {
    rewrite(&split) { piece, _ in
      var text: [UInt8] = piece[0] == 0x20 ? [] : [0x20]
      for at in piece.indices { text.append(piece[at]) }
      return text
    }
  }

  private static func byteLevel(_ piece: borrowing Span<UInt8>) -> [UInt8] {
    var text: [UInt8] = []
    for at in piece.indices { text.append(ByteLevel.characters[Int(piece[at])]) }
    return text
  }

  private static func each(
    _ set: ScalarSet, in text: borrowing Span<UInt8>, _ range: Range<Int>
  ) -> [Range<Int>] {
    var found: [Range<Int>] = []
    var at = range.lowerBound
    while at < range.upperBound {
      let scalar = text.scalar(at: at)
      if set.contains(scalar.value) { found.append(at..<at + scalar.length) }
      at += scalar.length
    }
    return found
  }

  private static func words(
    in text: borrowing Span<UInt8>, _ range: Range<Int>
  ) -> [Range<Int>] {
    var found: [Range<Int>] = []
    var previous: UInt8 = 0
    var at = range.lowerBound
    while at < range.upperBound {
      let scalar = text.scalar(at: at)
      let kind = ScalarClass(scalar.value)
      let sort: UInt8 = kind.isRustWord ? 1 : kind.isSpace ? 0 : 2
      if sort != 0, sort == previous, let last = found.last {
        found[found.count - 1] = last.lowerBound..<at + scalar.length
      } else if sort != 0 {
        found.append(at..<at + scalar.length)
      }
      previous = sort
      at += scalar.length
    }
    return found
  }
}
