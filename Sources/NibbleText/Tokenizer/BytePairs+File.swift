internal import NibbleFormats

extension BytePairs {
  /// Reads `model` of a tokenizer file. With `rawBytes`, words arrive as raw bytes in place of the
  /// printable characters that a byte-level tokenizer's file uses for them.
  init(_ model: TokenizerSection, vocabulary: Vocabulary, rawBytes: Bool) throws(TokenizerError) {
    self.vocabulary = vocabulary
    fusesUnknown = try model.bool("fuse_unk", default: false)
    ignoresMerges = try model.bool("ignore_merges", default: false)
    if let token = try model.optionalString("unk_token") {
      guard let id = vocabulary.id(of: token) else {
        throw .notInVocabulary(token, neededBy: "\(model.path).unk_token")
      }
      unknown = Int32(id)
    }
    let prefix = Array((try model.optionalString("continuing_subword_prefix") ?? "").utf8)
    if rawBytes {
      alphabet = Self.byteAlphabet(vocabulary)
    } else {
      let suffix = Array((try model.optionalString("end_of_word_suffix") ?? "").utf8)
      let fallsBack = try model.bool("byte_fallback", default: false)
      alphabet = .scalars(
        prefix: prefix, suffix: suffix,
        byteTokens: fallsBack ? ByteFallback.tokens(of: vocabulary) : [])
    }
    try readMerges(model, prefix: prefix)
  }

  /// Whether the settings allow words as raw bytes: no prefix or suffix is written around symbols.
  static func allowsRawBytes(_ model: TokenizerSection) throws(TokenizerError) -> Bool {
    let prefix = try model.optionalString("continuing_subword_prefix") ?? ""
    let suffix = try model.optionalString("end_of_word_suffix") ?? ""
    let fallsBack = try model.bool("byte_fallback", default: false)
    return prefix.isEmpty && suffix.isEmpty && !fallsBack
  }

  private static func byteAlphabet(_ vocabulary: Vocabulary) -> Alphabet {
    let symbols = (0..<256).map { byte in
      vocabulary.id(of: ByteLevel.encode([UInt8(byte)])).map { Int32($0) }
    }
    var words = ByteTable()
    for id in 0..<vocabulary.size {
      guard let token = vocabulary.token(id), let raw = ByteLevel.decode(token) else { continue }
      words.insert(raw.span, id)
    }
    return .bytes(symbols, words: words)
  }

  private mutating func readMerges(
    _ model: TokenizerSection, prefix: [UInt8]
  ) throws(TokenizerError) {
    let path = "\(model.path).merges"
    guard let entries = try model.required("merges").array else {
      throw .wrongKind(path, expected: "an array")
    }
    merges = IntegerTable(capacity: entries.count)
    for (rank, entry) in entries.enumerated() {
      guard let (left, right) = Self.halves(entry) else {
        throw .wrongKind("\(path)[\(rank)]", expected: "two tokens")
      }
      func id(_ token: [UInt8]) throws(TokenizerError) -> UInt64 {
        guard let id = vocabulary.id(of: token) else {
          throw .notInVocabulary(
            String(decoding: token, as: UTF8.self), neededBy: "\(path)[\(rank)]")
        }
        return UInt64(id)
      }
      guard right.count >= prefix.count else {
        throw .wrongKind("\(path)[\(rank)]", expected: "a pair with the subword prefix")
      }
      let merged = try id(left + right.dropFirst(prefix.count))
      merges.set(UInt64(rank) << 32 | merged, for: try id(left) << 32 | id(right))
    }
  }

  /// The two sides of `"a b"` or `["a", "b"]`.
  private static func halves(_ entry: JSON) -> ([UInt8], [UInt8])? {
    if let pair = entry.array {
      guard pair.count == 2, let left = pair[0].string, let right = pair[1].string else {
        return nil
      }
      return (Array(left.utf8), Array(right.utf8))
    }
    guard let bytes = entry.string.map({ Array($0.utf8) }) else { return nil }
    let parts = bytes.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
    return parts.count == 2 ? (Array(parts[0]), Array(parts[1])) : nil
  }
}
