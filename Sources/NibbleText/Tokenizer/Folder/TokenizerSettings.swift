package import NibbleFormats

/// The tokenizer settings of a folder besides the vocabulary: tokenizer_config.json, and in older
/// folders special_tokens_map.json and added_tokens.json.
package struct TokenizerSettings: Sendable {
  /// nil where neither the class nor the model's type is known.
  let kind: TokenizerKind?
  /// `tokenizer_class`; nil where it is missing or does not determine the files.
  let className: String?
  let modelType: String?
  /// tokenizer_config.json with what the older files add.
  private var config: JSONObject

  private static let names = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  /// - Parameter modelType: `model_type` of config.json.
  package init(
    config: JSON?, specialTokensMap: JSON? = nil, addedTokens: JSON? = nil, modelType: String? = nil
  ) throws(TokenizerError) {
    func object(_ json: JSON?, _ file: String) throws(TokenizerError) -> JSONObject {
      guard let json else { return JSONObject() }
      guard let object = json.object else { throw .wrongKind(file, expected: "an object") }
      return object
    }
    self.config = try object(config, "tokenizer_config.json")
    self.modelType = modelType
    let section = TokenizerSection(json: .object(self.config), path: "tokenizer_config.json")
    className = try section.optionalString("tokenizer_class").flatMap {
      TokenizerKind.isGeneral($0) ? nil : $0
    }
    kind =
      if let className { TokenizerKind(className: className) } else {
        modelType.flatMap { TokenizerKind(modelType: $0) }
      }
    // As in transformers: the older files apply where the config does not list added tokens.
    guard section.optional("added_tokens_decoder") == nil else { return }
    for (key, value) in try object(specialTokensMap, "special_tokens_map.json") {
      self.config[key] = value
    }
    let added = try object(addedTokens, "added_tokens.json")
    guard added.count > 0 else { return }
    let special = Set(
      (Self.names.compactMap { self.config[$0] }
        + (self.config["additional_special_tokens"]?.array ?? []))
        .compactMap { ($0.string ?? $0["content"]?.string).map { UTF8Key($0) } })
    var decoder = JSONObject()
    for (token, value) in added {
      guard let id = value.int, id >= 0 else {
        throw .wrongKind("added_tokens.json: \(shown(token))", expected: "an id")
      }
      guard decoder["\(id)"] == nil else {
        throw .badIdentifier(id, token: shown(token), reason: "belongs to another token as well")
      }
      let isSpecial = special.contains(UTF8Key(token))
      decoder["\(id)"] = [
        "content": .string(token), "lstrip": false, "rstrip": false, "single_word": false,
        "normalized": .bool(!isSpecial), "special": .bool(isSpecial),
      ]
    }
    self.config["added_tokens_decoder"] = .object(decoder)
  }

  private var section: TokenizerSection {
    TokenizerSection(json: .object(config), path: "tokenizer_config.json")
  }

  /// The value of a flag; nil where the config does not set it.
  func flag(_ key: String) throws(TokenizerError) -> Bool? {
    section.optional(key) == nil ? nil : try section.bool(key, default: false)
  }

  /// The added tokens that the config lists by id.
  func addedTokens() throws(TokenizerError) -> [(id: Int, content: String)] {
    guard let entries = section.optional("added_tokens_decoder") else { return [] }
    let path = "tokenizer_config.json.added_tokens_decoder"
    guard let object = entries.object else { throw .wrongKind(path, expected: "an object") }
    var tokens: [(id: Int, content: String)] = []
    for (key, value) in object {
      guard let id = Int(key), id >= 0, id < Vocabulary.idLimit else {
        throw .wrongKind("\(path).\(shown(key))", expected: "an id")
      }
      let entry = TokenizerSection(json: value, path: "\(path).\(key)")
      tokens.append((id, try entry.string("content")))
    }
    return tokens.sorted { $0.id < $1.id }
  }

  /// The spelling of a named token, from the config or else from `defaults`; nil where the config
  /// has null.
  private func name(
    _ key: String, _ defaults: [(key: String, token: String)]
  ) throws(TokenizerError) -> String? {
    guard let value = config[key] else { return defaults.first { $0.key == key }?.token }
    if value.isNull { return nil }
    guard let name = value.string ?? value["content"]?.string else {
      throw .wrongKind("tokenizer_config.json.\(key)", expected: "a token")
    }
    return name
  }

  /// A `tokenizer_config.json` that lists every named token, and the matching post-processor.
  ///
  /// - Parameters:
  ///   - defaults: named tokens where the config does not set them.
  ///   - vocabulary: the model's tokens by their spelling.
  ///   - size: the model's highest id + 1.
  ///   - addsBeginning: whether a text begins with the beginning-of-text token where the config
  ///     does not say.
  func complete(
    defaults: [(key: String, token: String)], vocabulary: JSONObject, size: Int, addsBeginning: Bool
  ) throws(TokenizerError) -> (config: JSON, postProcessor: JSON) {
    var complete = config
    var decoder = config["added_tokens_decoder"]?.object ?? JSONObject()
    var ids: [UTF8Key: Int] = [:]
    for token in try addedTokens() {
      ids[UTF8Key(token.content)] = vocabulary[token.content]?.int ?? token.id
    }
    var next = max(size, (ids.values.max() ?? -1) + 1)
    var named: [String: TemplateProcessing.Token] = [:]
    for key in Self.names {
      guard let name = try name(key, defaults), !name.isEmpty else {
        complete[key] = nil
        continue
      }
      let given = ids[UTF8Key(name)]
      let id = given ?? vocabulary[name]?.int ?? next
      next = max(next, id + 1)
      named[key] = (name, id)
      // A token given as an object also says whether it strips the spaces around it.
      if given == nil {
        ids[UTF8Key(name)] = id
        var entry: JSON = config[key]?.object.map { .object($0) } ?? ["content": .string(name)]
        entry.set("__type", nil)
        entry.set("special", true)
        decoder["\(id)"] = entry
      }
      complete[key] = .string(name)
    }
    complete["added_tokens_decoder"] = .object(decoder)
    let begins = try flag("add_bos_token") ?? addsBeginning
    let ends = try flag("add_eos_token") ?? false
    let template = TemplateProcessing(
      begin: begins ? named["bos_token"] : nil, end: ends ? named["eos_token"] : nil)
    return (.object(complete), template.json)
  }
}

extension TokenizerSettings {
  /// Whether the folder's class splits text into words and reads bytes, unlike SentencePiece.
  var isByteLevel: Bool {
    kind.map { $0.preTokenizer(prefixesSpace: false) != nil } ?? false
  }

  func unknownClass(for file: String) -> TokenizerError {
    let folder =
      className.map { "the class \(shown($0))" }
      ?? modelType.map { "a model of type \(shown($0)) without a tokenizer_class" }
      ?? "a folder without a tokenizer_class"
    return .unknownKind(file: file, reason: "Nibble does not know what \(folder) makes of it")
  }
}
