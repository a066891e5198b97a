public import NibbleFormats

/// Reasons why a model cannot be used. Each says where, what, and what to do next.
public enum ModelError: Error, Hashable, Sendable {
  case format(FormatError)
  case notAModel(path: String, reason: String)
  case json(path: String, JSONError)
  case config(path: String, field: String, reason: String)
  case unknownFamily(String, path: String)
  /// Keys of a config that may ask for arithmetic which the family does not have.
  case unknownKeys([String], family: String, path: String)
  /// Tensors that the family does not compute with, by their names within a block, and their
  /// number.
  case unknownTensors([String], count: Int, family: String, path: String)
  /// `--ignore-key` matches nothing.
  case nothingToIgnore(String, path: String)
  case missingTensor(String, path: String)
  case tensorShape(String, found: [Int], expected: [Int])
  case tensorType(String, found: String, expected: String)
  case nonFinite(tensor: String, index: Int)
  /// `place` is the token, or the window, after which they occurred.
  case nonFiniteLogits(place: String)
  case tooManyTokens(Int, limit: Int, what: String)
  /// The KV cache of this many tokens exceeds `limit`, under which only `fitting` fit.
  case cacheTooSmall(tokens: Int, fitting: Int, bytesPerToken: Int, limit: String)
  case tokenOutsideVocabulary(Int, vocabulary: Int)
  case unsupported(String)
}

extension ModelError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .format(let error): "\(error)"
    case .notAModel(let path, let reason):
      "\(path): \(reason). Give a folder with config.json and weights, or a .gguf file."
    case .json(let path, let error): "\(path): not JSON: \(error)"
    case .config(let path, let field, let reason): "\(path): \(field) \(reason)."
    case .unknownFamily(let type, let path):
      "\(path): model_type \"\(shown(type))\" is no family that Nibble runs; those are "
        + "\(Self.families). Data-free recipes still quantize it; eval, run and chat do not work on it."
    case .unknownKeys(let keys, let family, let path):
      "\(path): holds \(Self.list(keys)), which Nibble's \(family) does not know and which may change "
        + "what the model computes. Use a version that knows \(keys.count == 1 ? "it" : "them"), or add "
        + "\(Self.ignoring(keys)) if \(keys.count == 1 ? "it changes" : "they change") nothing."
    case .unknownTensors(let names, let count, let family, let path):
      "\(path): holds \(count == 1 ? "a tensor" : "\(count) tensors") that Nibble's \(family) does not "
        + "compute with: \(Self.list(names)). The model is another family, or a variant. Use a version "
        + "that knows it, or add \(Self.ignoring(names)) if the model computes the same without."
    case .nothingToIgnore(let name, let path):
      "--ignore-key \(shown(name)): \(path) has no such key, and no tensor whose name ends so. Leave it "
        + "out, or name it as the error did."
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
    case .nonFiniteLogits(let place):
      "the model's logits \(place) are infinite or not a number. Its weights are damaged, or they "
        + "overflow: fetch or quantize the model again, or use --precision f32."
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

  /// The families that Nibble runs, with the types that configs give them.
  private static var families: String {
    Family.all.map { "\($0.name) (\($0.modelTypes.joined(separator: ", ")))" }
      .joined(separator: ", ")
  }

  private static func list(_ names: [String]) -> String {
    let limit = 8
    let listed = names.prefix(limit).map { shown($0) }
    let more = names.count - listed.count
    guard more == 0, listed.count > 1, let last = listed.last else {
      return listed.joined(separator: ", ") + (more > 0 ? " and \(more) more" : "")
    }
    return listed.dropLast().joined(separator: ", ") + " and " + last
  }

  private static func ignoring(_ names: [String]) -> String {
    names.prefix(8).map { "--ignore-key \(shown($0))" }.joined(separator: " ")
  }
}
