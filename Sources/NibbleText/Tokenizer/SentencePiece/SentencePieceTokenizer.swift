internal import Foundation
package import NibbleFormats

extension Tokenizer {
  /// Builds from the bytes of a SentencePiece `tokenizer.model`, by way of the equivalent files of
  /// transformers.
  package init(
    sentencePiece bytes: [UInt8], settings: TokenizerSettings, file: String = "tokenizer.model"
  ) throws(TokenizerError) {
    let files = try Self.huggingFaceFiles(
      fromSentencePiece: bytes, settings: settings, file: file)
    try self.init(tokenizerJSON: files.tokenizer, config: files.config)
  }

  /// A `tokenizer.json` and `tokenizer_config.json` with the same result.
  package static func huggingFaceFiles(
    fromSentencePiece bytes: [UInt8], settings: TokenizerSettings, file: String = "tokenizer.model"
  ) throws(TokenizerError) -> (tokenizer: JSON, config: JSON) {
    guard !settings.isByteLevel, settings.className == nil || settings.kind != nil else {
      throw settings.unknownClass(for: file)
    }
    let model = try SentencePieceModel(bytes, file: file)
    return try SentencePieceFiles(model, settings).files()
  }
}

/// Turns a SentencePiece model into the components of a `tokenizer.json`.
///
/// `LlamaTokenizer` and `GemmaTokenizer` are those of transformers 5.23.0 for byte-pair models. The
/// others follow the SentencePiece library for each stretch of text between special tokens, like
/// the remote code of InternLM: the file decides whether a space is put before a text and whether
/// extra spaces are removed, and its replacements come first. For a unigram model all classes give
/// the same result.
private struct SentencePieceFiles {
  private let model: SentencePieceModel
  private let settings: TokenizerSettings
  private let kind: TokenizerKind
  /// The tokens by id: pieces, or the name that the config gives to a piece.
  private var tokens: [String]
  private var renamed: Set<Int> = []
  private let prefixesSpace: Bool

  private static let mark = "\u{2581}"

  init(_ model: SentencePieceModel, _ settings: TokenizerSettings) throws(TokenizerError) {
    self.model = model
    self.settings = settings
    kind = model.kind == .unigram ? .sentencePiece : settings.kind ?? .sentencePiece
    tokens = model.pieces.map(\.text)
    prefixesSpace =
      switch kind {
      case .llama: try settings.flag("add_prefix_space") ?? true
      case .gemma: false
      default: model.addsDummyPrefix
      }
    var known = Set(tokens.map { UTF8Key($0) })
    for token in try settings.addedTokens() where token.id < tokens.count {
      guard !known.contains(UTF8Key(token.content)) else { continue }
      known.insert(UTF8Key(token.content))
      tokens[token.id] = token.content
      renamed.insert(token.id)
    }
  }

  func files() throws(TokenizerError) -> (tokenizer: JSON, config: JSON) {
    var vocabulary = JSONObject()
    for (id, token) in tokens.enumerated() {
      guard vocabulary[token] == nil else {
        throw .badFile(model.file, reason: "token \(id), \"\(shown(token))\", stands twice")
      }
      vocabulary[token] = JSON(id)
    }
    let (config, postProcessor) = try settings.complete(
      defaults: namedTokens, vocabulary: vocabulary, size: tokens.count,
      addsBeginning: settings.kind?.addsBeginning ?? false)
    let tokenizer: JSON = [
      "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(addedTokens),
      "normalizer": normalizer, "pre_tokenizer": try preTokenizer(),
      "post_processor": postProcessor, "decoder": decoder, "model": try modelJSON(vocabulary),
    ]
    return (tokenizer, config)
  }

  private var namedTokens: [(key: String, token: String)] {
    if let kind = settings.kind, !kind.namedTokens.isEmpty { return kind.namedTokens }
    let named = [
      ("bos_token", model.begin), ("eos_token", model.end), ("pad_token", model.padding),
      ("unk_token", tokens[model.unknown]),
    ]
    return named.compactMap { key, token in token.map { (key, $0) } }
  }

  /// Control pieces are special; user-defined ones are searched in a text before anything else.
  private var addedTokens: [JSON] {
    model.pieces.indices.compactMap { id in
      let kind = model.pieces[id].kind
      guard kind == .control || kind == .userDefined, !renamed.contains(id) else { return nil }
      return [
        "id": JSON(id), "content": .string(tokens[id]), "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": .bool(kind == .control),
      ]
    }
  }

  private static func replace(_ pattern: JSON, _ content: String) -> JSON {
    ["type": "Replace", "pattern": pattern, "content": .string(content)]
  }

  private var normalizer: JSON {
    if kind == .llama { return .null }
    var steps: [JSON] = []
    if kind == .sentencePiece {
      if !model.charsmap.isEmpty {
        let text = Data(model.charsmap).base64EncodedString()
        steps.append(["type": "Precompiled", "precompiled_charsmap": .string(text)])
      }
      if model.removesExtraSpaces {
        steps.append(Self.replace(["Regex": #"\A +| +\z"#], ""))
        steps.append(Self.replace(["Regex": " {2,}"], " "))
      }
      if prefixesSpace { steps.append(["type": "Prepend", "prepend": .string(Self.mark)]) }
    }
    steps.append(Self.replace(["String": " "], Self.mark))
    return ["type": "Sequence", "normalizers": .array(steps)]
  }

  private func preTokenizer() throws(TokenizerError) -> JSON {
    guard kind == .llama else { return .null }
    let scheme =
      !prefixesSpace ? "never" : try settings.flag("legacy") ?? false ? "always" : "first"
    return [
      "type": "Metaspace", "replacement": .string(Self.mark), "prepend_scheme": .string(scheme),
      "split": false,
    ]
  }

  private var decoder: JSON {
    var steps = [Self.replace(["String": .string(Self.mark)], " ")]
    if kind != .sentencePiece || model.fallsBackToBytes { steps.append(["type": "ByteFallback"]) }
    steps.append(["type": "Fuse"])
    if prefixesSpace { steps.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    return ["type": "Sequence", "decoders": .array(steps)]
  }

  private func modelJSON(_ vocabulary: JSONObject) throws(TokenizerError) -> JSON {
    if model.kind == .unigram {
      return [
        "type": "Unigram", "unk_id": JSON(model.unknown),
        "byte_fallback": .bool(model.fallsBackToBytes),
        "vocab": .array(
          model.pieces.indices.map {
            [.string(tokens[$0]), .number(Double(model.pieces[$0].score))]
          }),
      ]
    }
    let merges = try ScoredMerges(
      of: tokens.map { Array($0.utf8) }, scores: model.pieces.map(\.score), cut: .scalars
    ) { id in
      switch model.pieces[id].kind {
      case .normal, .userDefined, .unused: !renamed.contains(id)
      case .unknown, .control, .byte: false
      }
    }
    return [
      "type": "BPE", "dropout": .null,
      "unk_token": kind == .llama ? .null : .string(tokens[model.unknown]),
      "continuing_subword_prefix": .null, "end_of_word_suffix": .null, "fuse_unk": true,
      "byte_fallback": .bool(kind != .sentencePiece || model.fallsBackToBytes),
      "ignore_merges": false, "vocab": .object(vocabulary),
      "merges": .array(merges.pairs.map { [.string(tokens[$0.left]), .string(tokens[$0.right])] }),
    ]
  }
}
