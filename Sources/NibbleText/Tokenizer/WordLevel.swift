/// A model whose tokens are whole words.
struct WordLevel: Sendable {
  var vocabulary: Vocabulary
  var unknown: Int

  init(_ model: TokenizerSection, vocabulary: Vocabulary) throws(TokenizerError) {
    let token = try model.string("unk_token")
    guard let unknown = vocabulary.id(of: token) else {
      throw .notInVocabulary(token, neededBy: "\(model.path).unk_token")
    }
    self.vocabulary = vocabulary
    self.unknown = unknown
  }

  func encode(_ word: borrowing Span<UInt8>, into ids: inout [Int]) {
    ids.append(vocabulary.id(of: word) ?? unknown)
  }
}
