internal import NibbleFormats

/// A GGUF file's tokenizer, checked, and the parts of Hugging Face files that both models share.
struct GGUFSource {
  let gguf: GGUFTokenizer
  /// By id. Swift strings, so never compared with `==`.
  let tokens: [String]

  /// The components of a `tokenizer.json` that depend on the model.
  struct Pipeline {
    var normalizer: JSON = .null
    var preTokenizer: JSON = .null
    var decoder: JSON
    var model: JSON
    var addsBOS: Bool
  }

  init(_ gguf: GGUFTokenizer) throws(TokenizerError) {
    self.gguf = gguf
    let count = gguf.tokens.count
    guard gguf.types.isEmpty || gguf.types.count == count else {
      throw .badGGUF("\(gguf.types.count) token types do not fit \(count) tokens")
    }
    guard gguf.scores.isEmpty || gguf.scores.count == count else {
      throw .badGGUF("\(gguf.scores.count) scores do not fit \(count) tokens")
    }
    var tokens: [String] = []
    tokens.reserveCapacity(count)
    for (id, bytes) in gguf.tokens.enumerated() {
      guard let token = String(validating: bytes, as: UTF8.self) else {
        throw .badGGUF("token \(id) is not valid UTF-8")
      }
      tokens.append(token)
    }
    self.tokens = tokens
    let named = [
      ("bos", gguf.bos), ("eos", gguf.eos), ("unknown", gguf.unknown), ("padding", gguf.padding),
    ]
    for (name, id) in named {
      guard let id, !tokens.indices.contains(id) else { continue }
      throw .badGGUF("\(name)_token_id \(id) is outside 0..<\(count)")
    }
  }

  private enum Kind: Int {
    case unknown = 2
    case control = 3
    case userDefined = 4
  }

  private func kind(_ id: Int) -> Kind? {
    gguf.types.isEmpty ? nil : Kind(rawValue: gguf.types[id])
  }

  var vocabulary: JSON {
    get throws(TokenizerError) {
      var object = JSONObject()
      for (id, token) in tokens.enumerated() {
        guard object[token] == nil else {
          throw .badGGUF("token \(id), \"\(token)\", stands twice")
        }
        object[token] = JSON(id)
      }
      return .object(object)
    }
  }

  var addedTokens: [JSON] {
    tokens.indices.compactMap { id in
      guard let kind = kind(id), !tokens[id].isEmpty else { return nil }
      return [
        "id": JSON(id), "content": .string(tokens[id]), "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": .bool(kind != .userDefined),
      ]
    }
  }

  func template(begin: Bool, end: Bool) -> JSON {
    func token(_ id: Int?) -> TemplateProcessing.Token? { id.map { (tokens[$0], $0) } }
    return TemplateProcessing(
      begin: begin ? token(gguf.bos) : nil, end: end ? token(gguf.eos) : nil
    ).json
  }

  var config: JSON {
    var config = JSONObject()
    func name(_ key: String, _ id: Int?) {
      if let id { config[key] = .string(tokens[id]) }
    }
    name("bos_token", gguf.bos)
    name("eos_token", gguf.eos)
    name("unk_token", gguf.unknown)
    name("pad_token", gguf.padding)
    if let template = gguf.chatTemplate { config["chat_template"] = .string(template) }
    config["clean_up_tokenization_spaces"] = false
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    return .object(config)
  }
}
