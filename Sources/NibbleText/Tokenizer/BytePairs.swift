/// A byte-pair model: symbols are merged in the order of the file's merges, lowest rank first and,
/// among equal ranks, leftmost first.
///
/// Source: Sennrich et al., arXiv 1508.07909, with the settings of Hugging Face's `BPE`. Dropout is
/// a training setting and is ignored.
struct BytePairs: Sendable {
  /// How the symbols that merging starts from are found.
  enum Alphabet: Sendable {
    /// Each byte is a symbol; nil for a byte without a token. `words` holds the tokens as raw bytes.
    case bytes([Int32?], words: ByteTable)
    /// Each scalar is a symbol, or, under byte fallback, each of its bytes (`byteTokens`, 256 ids).
    case scalars(prefix: [UInt8], suffix: [UInt8], byteTokens: [Int32?])
  }

  /// left id << 32 | right id -> rank << 32 | merged id
  var merges = IntegerTable()
  var alphabet: Alphabet
  var vocabulary: Vocabulary
  var unknown: Int32?
  var fusesUnknown: Bool
  /// Whether a word that is a token as a whole is kept in one piece.
  var ignoresMerges: Bool

  /// Symbols of words up to this length merge by scanning, longer ones by a heap.
  static let scanLimit = 48

  /// Working memory of one encoding.
  struct Scratch {
    var symbols: [Int32] = []
    var pairs: [UInt64] = []
  }

  func encode(_ word: borrowing Span<UInt8>, into ids: inout [Int], scratch: inout Scratch) {
    guard !word.isEmpty else { return }
    if ignoresMerges, let id = whole(word) {
      ids.append(id)
      return
    }
    scratch.symbols.removeAll(keepingCapacity: true)
    findSymbols(word, into: &scratch.symbols)
    if scratch.symbols.count <= Self.scanLimit {
      mergeByScanning(&scratch)
    } else {
      mergeByHeap(&scratch.symbols)
    }
    for symbol in scratch.symbols { ids.append(Int(symbol)) }
  }

  private func whole(_ word: borrowing Span<UInt8>) -> Int? {
    switch alphabet {
    case .bytes(_, let words): words.value(for: word)
    case .scalars: vocabulary.id(of: word)
    }
  }

  private func findSymbols(_ word: borrowing Span<UInt8>, into symbols: inout [Int32]) {
    /// Consecutive unknown symbols become one when `fusesUnknown`; byte tokens that follow an
    /// unknown symbol come before it, which is what Hugging Face's code does.
    var pending = false
    func isUnknown(_ symbols: inout [Int32]) {
      guard let unknown else { return }
      if pending, !fusesUnknown { symbols.append(unknown) }
      pending = true
    }
    func add(_ id: Int32, _ symbols: inout [Int32]) {
      if pending, let unknown { symbols.append(unknown) }
      pending = false
      symbols.append(id)
    }

    switch alphabet {
    case .bytes(let ids, _):
      for at in word.indices {
        if let id = ids[Int(word[at])] { add(id, &symbols) } else { isUnknown(&symbols) }
      }
    case .scalars(let prefix, let suffix, let byteTokens):
      var at = 0
      while at < word.count {
        let end = at + word.scalar(at: at).length
        let affixed = (at > 0 && !prefix.isEmpty) || (end == word.count && !suffix.isEmpty)
        if !affixed {
          if let id = vocabulary.id(of: word.extracting(at..<end)) {
            add(Int32(id), &symbols)
          } else if byteTokens.isEmpty
            || !appendBytes(word.extracting(at..<end), byteTokens, &symbols)
          {
            isUnknown(&symbols)
          }
        } else {
          var symbol = at > 0 ? prefix : []
          for offset in at..<end { symbol.append(word[offset]) }
          if end == word.count { symbol += suffix }
          if let id = vocabulary.id(of: symbol) {
            add(Int32(id), &symbols)
          } else if byteTokens.isEmpty || !appendBytes(symbol.span, byteTokens, &symbols) {
            isUnknown(&symbols)
          }
        }
        at = end
      }
    }
    if pending, let unknown { symbols.append(unknown) }
  }

  private func appendBytes(
    _ bytes: borrowing Span<UInt8>, _ byteTokens: [Int32?], _ symbols: inout [Int32]
  ) -> Bool {
    for at in bytes.indices where byteTokens[Int(bytes[at])] == nil { return false }
    for at in bytes.indices {
      if let id = byteTokens[Int(bytes[at])] { symbols.append(id) }
    }
    return true
  }
}
