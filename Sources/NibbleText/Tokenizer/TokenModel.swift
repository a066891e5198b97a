internal import NibbleFormats

/// The model that turns a word into ids.
enum TokenModel: Sendable {
  case bytePairs(BytePairs)
  case unigram(Unigram)
  case wordLevel(WordLevel)

  /// - Parameter byteLevel: whether words end up byte-level encoded, so that the model may take
  ///   them as raw bytes.
  init(_ model: TokenizerSection, byteLevel: Bool) throws(TokenizerError) {
    switch try Self.kind(model) {
    case "BPE":
      let allowed = try BytePairs.allowsRawBytes(model)
      let vocabulary = try Self.vocabulary(model)
      self = .bytePairs(
        try BytePairs(model, vocabulary: vocabulary, rawBytes: byteLevel && allowed))
    case "Unigram": self = .unigram(try Unigram(model))
    case "WordLevel":
      self = .wordLevel(try WordLevel(model, vocabulary: Self.vocabulary(model)))
    case let other: throw .unsupported("the model \(other)", at: model.path)
    }
  }

  /// Old files do not name the type; it follows from their members.
  private static func kind(_ model: TokenizerSection) throws(TokenizerError) -> String {
    if let type = try model.optionalString("type") { return type }
    if model.optional("merges") != nil { return "BPE" }
    return model.optional("vocab")?.array == nil ? try model.string("type") : "Unigram"
  }

  private static func vocabulary(_ model: TokenizerSection) throws(TokenizerError) -> Vocabulary {
    guard let object = try model.required("vocab").object else {
      throw .wrongKind("\(model.path).vocab", expected: "an object of ids")
    }
    var vocabulary = Vocabulary()
    for (token, value) in object {
      guard let id = value.int else {
        throw .wrongKind("\(model.path).vocab[\"\(token)\"]", expected: "an id")
      }
      try vocabulary.add(Array(token.utf8), id: id)
    }
    return vocabulary
  }

  var vocabulary: Vocabulary {
    switch self {
    case .bytePairs(let model): model.vocabulary
    case .unigram(let model): model.tokens
    case .wordLevel(let model): model.vocabulary
    }
  }

  /// Whether words reach the model as raw bytes although the file uses byte-level characters.
  var takesRawBytes: Bool {
    if case .bytePairs(let model) = self, case .bytes = model.alphabet { true } else { false }
  }
}

/// One encoding in progress: the model, its working memory, and a cache of encoded words.
///
/// Words repeat often in text, so their ids are cached. The size of the cache is bounded.
struct WordEncoder {
  let model: TokenModel
  private var scratch = BytePairs.Scratch()
  private var known = ByteTable()
  private var remembered: [Int] = []

  static let wordLimit = 64
  static let memoryLimit = 1 << 17

  init(_ model: TokenModel) { self.model = model }

  mutating func encode(_ word: borrowing Span<UInt8>, into ids: inout [Int]) {
    switch model {
    case .bytePairs(let model):
      guard word.count <= Self.wordLimit else {
        return model.encode(word, into: &ids, scratch: &scratch)
      }
      if let place = known.value(for: word) {
        let start = place >> 8
        for at in start..<(start + (place & 0xFF)) { ids.append(remembered[at]) }
        return
      }
      let start = ids.count
      model.encode(word, into: &ids, scratch: &scratch)
      if known.count < Self.memoryLimit, ids.count - start < 256 {
        known.insert(word, remembered.count << 8 | (ids.count - start))
        remembered += ids[start...]
      }
    case .unigram(let model): model.encode(word, into: &ids)
    case .wordLevel(let model): model.encode(word, into: &ids)
    }
  }
}
