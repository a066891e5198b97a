/// Reasons why a tokenizer cannot be built. Nothing in a file is skipped: unknown content is
/// refused.
public enum TokenizerError: Error, Hashable, Sendable {
  /// A required member is missing. The payload is its path, as in `model.vocab`.
  case missing(String)
  case wrongKind(String, expected: String)
  /// A step, setting or pattern that Nibble does not implement.
  case unsupported(String, at: String)
  case badPattern(String, reason: String)
  case badIdentifier(Int, token: String, reason: String)
  case notInVocabulary(String, neededBy: String)
  case tooLong(String, length: Int, limit: Int)
  case badGGUF(String)
  /// A vocabulary file, by its name, whose content does not have the form of its kind.
  case badFile(String, reason: String)
  /// A kind of file, or of tokenizer class, that Nibble does not turn into a tokenizer.
  case unknownKind(file: String, reason: String)
}

extension TokenizerError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .missing(let path):
      "tokenizer: \(path) is missing. Take the file again from the source of the model."
    case .wrongKind(let path, let expected):
      "tokenizer: \(path) is not \(expected). Take the file again from the source of the model."
    case .unsupported(let what, let path):
      "tokenizer: \(path) asks for \(what), which Nibble does not implement. Encode elsewhere, "
        + "or rewrite that step with supported ones."
    case .badPattern(let pattern, let reason):
      "tokenizer: the pattern \(pattern) cannot be used: \(reason). Rewrite it without that."
    case .badIdentifier(let id, let token, let reason):
      "tokenizer: id \(id) of \"\(token)\" \(reason). Give each token an id of its own."
    case .notInVocabulary(let token, let user):
      "tokenizer: \(user) needs \"\(token)\", which is not in the vocabulary. Add it there."
    case .tooLong(let what, let length, let limit):
      "tokenizer: \(what) is \(length) long; at most \(limit) are accepted."
    case .badGGUF(let reason):
      "tokenizer.ggml: \(reason). Use the tokenizer.json of the model instead."
    case .badFile(let file, let reason):
      "\(file): \(reason). Take the file again from the source of the model."
    case .unknownKind(let file, let reason):
      "\(file): \(reason). Put a tokenizer.json beside it: "
        + "AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL) of transformers writes one."
    }
  }
}
