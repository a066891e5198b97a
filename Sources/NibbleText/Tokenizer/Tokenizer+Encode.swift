extension Tokenizer {
  /// The ids of a text.
  ///
  /// Added tokens that occur in the text, special ones included, become their ids, as in Hugging
  /// Face's code. Untrusted text must therefore not be put into a chat template unchecked.
  ///
  /// - Parameter addSpecialTokens: whether to put the file's begin and end tokens around the text.
  public func encode(_ text: String, addSpecialTokens: Bool = false) -> [Int] {
    encode(validUTF8: Array(text.utf8), addSpecialTokens: addSpecialTokens)
  }

  /// The ids of any bytes.
  ///
  /// Each maximal ill-formed part becomes U+FFFD first, as in Python's `bytes.decode("utf-8",
  /// errors="replace")`.
  public func encode(bytes: [UInt8], addSpecialTokens: Bool = false) -> [Int] {
    let text = String(decoding: bytes, as: UTF8.self)
    return encode(validUTF8: Array(text.utf8), addSpecialTokens: addSpecialTokens)
  }

  private func encode(validUTF8 text: [UInt8], addSpecialTokens: Bool) -> [Int] {
    var ids = addSpecialTokens ? postProcessor.prefix : []
    var words = WordEncoder(model)
    encode(text, isStart: true, skipsSpecial: false, words: &words, into: &ids)
    if addSpecialTokens { ids += postProcessor.suffix }
    return ids
  }

  /// The ids of a text in which a special token with `mark` after its first character is plain
  /// text. The mark itself is removed.
  func encode(_ text: [UInt8], mark: [UInt8]) -> [Int] {
    var ids: [Int] = []
    var words = WordEncoder(model)
    for part in specialTokens.split(text.span, mark: mark) {
      switch part {
      case .token(let id): ids.append(id)
      case .text(let range):
        encode(
          Self.removing(mark, from: Array(text[range])), isStart: range.lowerBound == 0,
          skipsSpecial: true, words: &words, into: &ids)
      }
    }
    return ids
  }

  private func encode(
    _ text: [UInt8], isStart: Bool, skipsSpecial: Bool, words: inout WordEncoder,
    into ids: inout [Int]
  ) {
    for part in rawTokens.split(text.span, skipsSpecial: skipsSpecial) {
      switch part {
      case .token(let id): ids.append(id)
      case .text(let range):
        encodePlain(
          Array(text[range]), isStart: isStart && range.lowerBound == 0,
          skipsSpecial: skipsSpecial, words: &words, into: &ids)
      }
    }
  }

  /// Encodes text between added tokens.
  private func encodePlain(
    _ text: [UInt8], isStart: Bool, skipsSpecial: Bool, words: inout WordEncoder,
    into ids: inout [Int]
  ) {
    let (text, keepsStart) = normalizer.normalizeFromStart(text)
    for part in normalizedTokens.split(text.span, skipsSpecial: skipsSpecial) {
      switch part {
      case .token(let id): ids.append(id)
      case .text(let range):
        var split = SplitText(
          text: range == 0..<text.count ? text : Array(text[range]), pieces: [0..<range.count],
          isStart: isStart && keepsStart && range.lowerBound == 0)
        preTokenizer.apply(to: &split, rawBytes: model.takesRawBytes)
        let span = split.text.span
        for piece in split.pieces { words.encode(span.extracting(piece), into: &ids) }
      }
    }
  }
}
