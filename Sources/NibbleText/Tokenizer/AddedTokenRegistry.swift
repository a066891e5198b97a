internal import NibbleFormats

/// Collects added tokens while a tokenizer is built. A repeated token replaces the first.
struct AddedTokenRegistry {
  private let vocabulary: Vocabulary
  private var tokens: [AddedToken] = []
  private var places: [UTF8Key: Int] = [:]
  private var takenIds: Set<Int> = []
  private(set) var size: Int

  init(_ vocabulary: Vocabulary) {
    self.vocabulary = vocabulary
    size = vocabulary.size
  }

  var contents: [Int: String] {
    Dictionary(tokens.map { ($0.id, $0.content) }) { first, _ in first }
  }

  var ids: [UTF8Key: Int] {
    Dictionary(tokens.map { (UTF8Key($0.content), $0.id) }) { first, _ in first }
  }

  var specialIds: Set<Int> { Set(tokens.filter(\.isSpecial).map(\.id)) }

  func id(of token: String) -> Int? {
    places[UTF8Key(token)].map { tokens[$0].id } ?? vocabulary.id(of: token)
  }

  func matcher(normalized: Bool, spelling: (String) -> [UInt8]) -> AddedTokens {
    var matcher = AddedTokens()
    for token in tokens where token.isNormalized == normalized {
      matcher.add(token, spelled: spelling(token.content))
    }
    return matcher
  }

  /// The special tokens as the file spells them.
  var specialMatcher: AddedTokens {
    var matcher = AddedTokens()
    for token in tokens where token.isSpecial {
      matcher.add(token, spelled: Array(token.content.utf8))
    }
    return matcher
  }

  /// Adds an entry of `added_tokens`. A token of the model's vocabulary keeps its id there.
  mutating func add(_ section: TokenizerSection, id: Int? = nil) throws(TokenizerError) {
    let content = try section.string("content")
    let stated: Int
    if let id { stated = id } else { stated = try section.integer("id") }
    try add(AddedToken(section, id: vocabulary.id(of: content) ?? stated))
  }

  private mutating func add(_ token: AddedToken) throws(TokenizerError) {
    guard !token.content.isEmpty else { return }
    func refuse(_ reason: String) -> TokenizerError {
      .badIdentifier(token.id, token: token.content, reason: reason)
    }
    guard token.id >= 0, token.id < Vocabulary.idLimit else {
      throw refuse("is outside 0..<\(Vocabulary.idLimit)")
    }
    let key = UTF8Key(token.content)
    if let place = places[key] {
      guard tokens[place].id == token.id else { throw refuse("is a second id of that token") }
      tokens[place] = token
      return
    }
    let owner = vocabulary.token(token.id)
    guard owner == nil || owner?.elementsEqual(token.content.utf8) == true,
      takenIds.insert(token.id).inserted
    else { throw refuse("belongs to another token as well") }
    places[key] = tokens.count
    tokens.append(token)
    size = max(size, token.id + 1)
  }

  /// Adds `added_tokens_decoder` and the named special tokens of a `tokenizer_config.json`.
  mutating func addFromConfig(_ config: TokenizerSection) throws(TokenizerError) {
    if let entries = config.optional("added_tokens_decoder") {
      let path = "\(config.path).added_tokens_decoder"
      guard let object = entries.object else { throw .wrongKind(path, expected: "an object") }
      for (key, value) in object {
        guard let id = Int(key) else { throw .wrongKind("\(path).\(key)", expected: "an id") }
        try add(TokenizerSection(json: value, path: "\(path).\(key)"), id: id)
      }
    }
    var names: [String] = []
    for key in ["bos", "eos", "unk", "sep", "pad", "cls", "mask"] {
      if let name = try Self.name("\(key)_token", config) { names.append(name) }
    }
    for key in ["additional_special_tokens", "extra_special_tokens"] {
      names += (config.optional(key)?.array ?? []).compactMap { $0.string ?? $0["content"]?.string }
    }
    for name in names where !name.isEmpty && places[UTF8Key(name)] == nil {
      try add(AddedToken(special: name, id: vocabulary.id(of: name) ?? size))
    }
  }

  /// The id of a token that the config names by content or as an added-token object.
  func namedId(_ key: String, _ config: TokenizerSection) throws(TokenizerError) -> Int? {
    try Self.name(key, config).flatMap { id(of: $0) }
  }

  private static func name(_ key: String, _ config: TokenizerSection) throws(TokenizerError)
    -> String?
  {
    guard let value = config.optional(key) else { return nil }
    guard let name = value.string ?? value["content"]?.string else {
      throw .wrongKind("\(config.path).\(key)", expected: "a token")
    }
    return name
  }
}
