public import NibbleFormats

/// Turns text into the token ids of a model, and ids back into text.
///
/// Gives the same ids as Hugging Face's tokenizers. Truncation and padding in a file are ignored:
/// they belong to the code that builds a batch.
public struct Tokenizer: Sendable {
  let model: TokenModel
  let normalizer: Normalizer
  let preTokenizer: PreTokenizer
  let decoder: TokenDecoder
  let postProcessor: PostProcessor
  /// Added tokens searched in the original text, and those searched in the normalized text.
  let rawTokens: AddedTokens
  let normalizedTokens: AddedTokens
  /// The special tokens of both.
  let specialTokens: AddedTokens
  let addedContents: [Int: String]
  let addedIds: [UTF8Key: Int]
  private let specialIds: Set<Int>

  /// Highest id + 1, added tokens included.
  public let vocabularySize: Int
  public let bos: Int?
  public let eos: Int?

  /// Builds from `tokenizer.json`, and `tokenizer_config.json` when there is one.
  ///
  /// The config adds tokens and names begin and end. Its `add_bos_token` and `add_eos_token` are
  /// ignored, as in transformers 5: the template in `tokenizer.json` decides.
  public init(tokenizerJSON: JSON, config: JSON?) throws(TokenizerError) {
    let file = TokenizerSection(json: tokenizerJSON, path: "tokenizer.json")
    func component(_ key: String) -> TokenizerSection? {
      file.optional(key).map { TokenizerSection(json: $0, path: key) }
    }
    normalizer = try component("normalizer").map(Normalizer.init) ?? Normalizer()
    preTokenizer = try component("pre_tokenizer").map(PreTokenizer.init) ?? PreTokenizer()
    decoder = try TokenDecoder(component("decoder"))
    model = try TokenModel(
      TokenizerSection(json: file.required("model"), path: "model"),
      byteLevel: preTokenizer.endsByteLevel)

    let settings = TokenizerSection(json: config ?? .object(JSONObject()), path: "config")
    var registry = AddedTokenRegistry(model.vocabulary)
    if file.optional("added_tokens") != nil {
      for section in try file.sections("added_tokens") { try registry.add(section) }
    }
    try registry.addFromConfig(settings)

    rawTokens = registry.matcher(normalized: false) { Array($0.utf8) }
    normalizedTokens = registry.matcher(normalized: true) { [normalizer] in
      normalizer.normalize(Array($0.utf8))
    }
    specialTokens = registry.specialMatcher
    addedContents = registry.contents
    addedIds = registry.ids
    specialIds = registry.specialIds
    vocabularySize = registry.size

    bos = try registry.namedId("bos_token", settings)
    eos = try registry.namedId("eos_token", settings)
    postProcessor = try component("post_processor").map(PostProcessor.init) ?? PostProcessor()
    for id in postProcessor.prefix + postProcessor.suffix where id < 0 || id >= vocabularySize {
      throw .badIdentifier(id, token: "post_processor", reason: "is not in the vocabulary")
    }
  }

  /// The spelling of an id in the files: byte-level tokens in their printable characters.
  public func token(_ id: Int) -> String? {
    addedContents[id] ?? model.vocabulary.token(id).map { String(decoding: $0, as: UTF8.self) }
  }

  public func id(of token: String) -> Int? {
    addedIds[UTF8Key(token)] ?? model.vocabulary.id(of: token)
  }

  /// The tokens before a text when special tokens are requested.
  public var beginning: [Int] { postProcessor.prefix }

  /// The first id that means other text in `other`; nil when all common ids mean the same.
  public func firstDifference(from other: Tokenizer) -> Int? {
    (0..<min(vocabularySize, other.vocabularySize)).first { id in
      guard let ours = token(id), let theirs = other.token(id) else { return false }
      return !ours.utf8.elementsEqual(theirs.utf8)
    }
  }

  /// Whether decoding leaves this id out when it skips special tokens.
  public func isSpecial(_ id: Int) -> Bool { specialIds.contains(id) }
}
