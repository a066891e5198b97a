extension Tokenizer {
  /// The text of ids. An id outside the vocabulary adds nothing; bytes that form no character
  /// become U+FFFD.
  public func decode(_ ids: [Int], skipSpecialTokens: Bool = false) -> String {
    let tokens = ids.compactMap { decoded($0, skipSpecialTokens: skipSpecialTokens) }
    return String(decoding: decoder.decode(tokens), as: UTF8.self)
  }

  /// The bytes of an id's token for decoding; nil when the id is left out.
  func decoded(_ id: Int, skipSpecialTokens: Bool) -> [UInt8]? {
    if skipSpecialTokens, isSpecial(id) { return nil }
    if let content = addedContents[id] { return Array(content.utf8) }
    return model.vocabulary.token(id).map { Array($0) }
  }
}
