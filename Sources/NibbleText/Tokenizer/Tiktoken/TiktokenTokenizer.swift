package import NibbleFormats

extension Tokenizer {
  /// Builds from the bytes of a file in tiktoken's format, whose ranks become merges.
  package init(
    tiktoken bytes: [UInt8], settings: TokenizerSettings, file: String
  ) throws(TokenizerError) {
    let files = try Self.huggingFaceFiles(fromTiktoken: bytes, settings: settings, file: file)
    try self.init(tokenizerJSON: files.tokenizer, config: files.config)
  }

  /// A `tokenizer.json` and `tokenizer_config.json` with the same result.
  package static func huggingFaceFiles(
    fromTiktoken bytes: [UInt8], settings: TokenizerSettings, file: String
  ) throws(TokenizerError) -> (tokenizer: JSON, config: JSON) {
    let style = try TiktokenStyle(settings, file: file)
    let tokens = try TiktokenFile(bytes, file: file).tokens
    let names = tokens.map { String(decoding: ByteLevel.encode($0), as: UTF8.self) }
    var vocabulary = JSONObject()
    for (rank, name) in names.enumerated() { vocabulary[name] = JSON(rank) }
    // The token of the lowest rank is merged first.
    let merges = try ScoredMerges(
      of: tokens, scores: tokens.indices.map { -Float($0) }, cut: .bytes
    ) { tokens[$0].count > 1 }
    let special: [JSON] = style.specialTokens.enumerated().map { place, token in
      [
        "id": JSON(tokens.count + place), "content": .string(token), "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true,
      ]
    }
    let (config, postProcessor) = try settings.complete(
      defaults: style.namedTokens, vocabulary: style.vocabulary(after: vocabulary),
      size: tokens.count + special.count, addsBeginning: false)
    let tokenizer: JSON = [
      "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(special),
      "normalizer": style.normalizer, "pre_tokenizer": style.preTokenizer,
      "post_processor": postProcessor, "decoder": byteLevelDecoder,
      "model": [
        "type": "BPE", "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
        "end_of_word_suffix": .null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": true, "vocab": .object(vocabulary),
        "merges": .array(merges.pairs.map { [.string(names[$0.left]), .string(names[$0.right])] }),
      ],
    ]
    return (tokenizer, config)
  }
}

/// The settings that a vocabulary in tiktoken's format does not contain: it has only tokens and
/// ranks.
private struct TiktokenStyle {
  var normalizer: JSON = .null
  var preTokenizer: JSON
  /// Appended to the tokens of the file.
  var specialTokens: [String] = []
  var namedTokens: [(key: String, token: String)] = []

  /// Sources: the remote code of Qwen (`tokenization_qwen.py`); `tiktoken_ext/openai_public.py`;
  /// transformers' `TikTokenConverter` for a `tokenizer.model` or `tiktoken.model` in this format, which
  /// takes the pattern of Llama 3.
  init(_ settings: TokenizerSettings, file: String) throws(TokenizerError) {
    if settings.kind == .qwen1 {
      normalizer = TokenizerKind.qwen1.normalizer
      preTokenizer = TokenizerKind.qwen1.preTokenizer(prefixesSpace: false) ?? .null
      specialTokens =
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + (0..<205).map { "<|extra_\($0)|>" }
      namedTokens = TokenizerKind.qwen1.namedTokens
      return
    }
    switch file {
    case "tokenizer.model", "tiktoken.model", "cl100k_base.tiktoken":
      preTokenizer = try GGUFPreTokenizer("dbrx").json
    case "o200k_base.tiktoken": preTokenizer = try GGUFPreTokenizer("gpt-4o").json
    default: throw settings.unknownClass(for: file)
    }
  }

  /// The tokens of the file, followed by the special ones.
  func vocabulary(after vocabulary: JSONObject) -> JSONObject {
    var all = vocabulary
    for (place, token) in specialTokens.enumerated() {
      all[token] = JSON(vocabulary.count + place)
    }
    return all
  }
}
