package import NibbleFormats

extension Tokenizer {
  /// Builds from `vocab.json` and the bytes of `merges.txt`, by way of the equivalent files of
  /// transformers.
  package init(
    vocabulary: JSON, merges: [UInt8], settings: TokenizerSettings
  ) throws(TokenizerError) {
    let files = try Self.huggingFaceFiles(
      fromVocabulary: vocabulary, merges: merges, settings: settings)
    try self.init(tokenizerJSON: files.tokenizer, config: files.config)
  }

  /// A `tokenizer.json` and `tokenizer_config.json` with the same result.
  package static func huggingFaceFiles(
    fromVocabulary vocabulary: JSON, merges: [UInt8], settings: TokenizerSettings
  ) throws(TokenizerError) -> (tokenizer: JSON, config: JSON) {
    guard let kind = settings.kind, kind != .qwen1,
      let preTokenizer = kind.preTokenizer(
        prefixesSpace: try settings.flag("add_prefix_space") ?? false)
    else { throw settings.unknownClass(for: "vocab.json") }
    guard let tokens = vocabulary.object else {
      throw .wrongKind("vocab.json", expected: "an object of ids")
    }
    var highest = -1
    for (token, value) in tokens {
      guard let id = value.int, id >= 0, id < Vocabulary.idLimit else {
        throw .badFile("vocab.json", reason: "\"\(shown(token))\" has no id that can be")
      }
      highest = max(highest, id)
    }
    let (config, postProcessor) = try settings.complete(
      defaults: settings.modelType == "opt" ? namedTokensOfOPT : kind.namedTokens,
      vocabulary: tokens, size: highest + 1,
      addsBeginning: settings.modelType == "opt" || kind.addsBeginning)
    let tokenizer: JSON = [
      "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": [],
      "normalizer": kind.normalizer, "pre_tokenizer": preTokenizer,
      "post_processor": postProcessor, "decoder": byteLevelDecoder,
      "model": [
        "type": "BPE", "dropout": .null, "unk_token": .null, "continuing_subword_prefix": "",
        "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": false, "vocab": vocabulary,
        "merges": .array(try MergesFile(merges, file: "merges.txt").merges),
      ],
    ]
    return (tokenizer, config)
  }

  static let byteLevelDecoder: JSON = [
    "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
  ]

  private static let namedTokensOfOPT = [
    (key: "bos_token", token: "</s>"), (key: "eos_token", token: "</s>"),
    (key: "unk_token", token: "</s>"), (key: "pad_token", token: "<pad>"),
  ]
}
