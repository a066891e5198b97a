public import NibbleFormats

/// Why a model cannot be used. Says where, what, and what to do next.
public enum ModelError: Error, Hashable, Sendable {
  case format(FormatError)
  case notAModel(path: String, reason: String)
  case json(path: String, JSONError)
  case config(path: String, field: String, reason: String)
  case unknownFamily(String, path: String)
  case missingTensor(String, path: String)
  case tensorShape(String, found: [Int], expected: [Int])
  case tensorType(String, found: String, expected: String)
  case nonFinite(tensor: String, index: Int)
  case tooManyTokens(Int, limit: Int, what: String)
  /// The keys and values of so many tokens are over a limit, in words, under which fewer fit.
  case cacheTooSmall(tokens: Int, fitting: Int, bytesPerToken: Int, limit: String)
  case tokenOutsideVocabulary(Int, vocabulary: Int)
  case unsupported(String)
}

extension ModelError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .format(let error): "\(error)"
    case .notAModel(let path, let reason):
      "\(path): \(reason). Give a folder with config.json and safetensors, or a .gguf file."
    case .json(let path, let error): "\(path): not JSON: \(error)"
    case .config(let path, let field, let reason): "\(path): \(field) \(reason)."
    case .unknownFamily(let type, let path):
      "\(path): model_type \"\(type)\" is no family Nibble knows; the nearest is \(Self.nearest(to: type)). "
        + "Data-free recipes still quantize it; eval, run and chat do not work on it."
    case .missingTensor(let name, let path):
      "\(path): the tensor \(name) is missing. The config and the weights do not belong together, "
        + "or a shard was not fetched."
    case .tensorShape(let name, let found, let expected):
      "\(name): shape \(found), but the config says \(expected). The config and the weights do not "
        + "belong together."
    case .tensorType(let name, let found, let expected):
      "\(name): holds \(found), not \(expected)."
    case .nonFinite(let tensor, let index):
      "\(tensor): value \(index) is infinite or not a number. The checkpoint is damaged, or its "
        + "float16 weights overflowed when they were saved."
    case .tooManyTokens(let count, let limit, let what):
      "\(count) tokens, but \(what) \(limit). Use a shorter text or window."
    case .cacheTooSmall(let count, let fitting, let bytes, let limit):
      "the keys and values of \(count) tokens, \(bytes) bytes each, are over \(limit), which holds "
        + "\(fitting) tokens. Use at most so many (--context), a smaller --kv, or a higher limit."
    case .tokenOutsideVocabulary(let id, let vocabulary):
      "token \(id) is outside the vocabulary of \(vocabulary). The tokenizer belongs to another model."
    case .unsupported(let reason): reason
    }
  }

  /// The family whose name or types share most with `type`, and what it is.
  static func nearest(to type: String) -> String {
    let candidates = Family.all.flatMap { family in family.modelTypes.map { ($0, family) } }
    let best = candidates.min { distance(type, $0.0) < distance(type, $1.0) }
    return best.map { "\($0.1.name) (\($0.1.modelTypes.joined(separator: ", ")))" } ?? "none"
  }

  /// Levenshtein's edit distance over scalars.
  static func distance(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a.unicodeScalars.prefix(64)), Array(b.unicodeScalars.prefix(64)))
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, y) in b.enumerated() {
        let next = min(row[j] + 1, row[j + 1] + 1, diagonal + (x == y ? 0 : 1))
        diagonal = row[j + 1]
        row[j + 1] = next
      }
    }
    return row[b.count]
  }
}
