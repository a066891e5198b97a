internal import Foundation
internal import NibbleFormats
internal import NibbleTensor

/// The vocabulary files of a folder that has no `tokenizer.json`.
package struct TokenizerFolder {
  private let path: String
  private let settings: TokenizerSettings

  /// Size limit of a vocabulary file in bytes; those of published models stay below 10 MiB.
  static let sizeLimit = 64 << 20

  /// Kinds of vocabulary that other tokenizer classes read.
  private static let foreign = [
    "tekken.json", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "bpe.model",
  ]

  /// - Parameter modelType: `model_type` of config.json.
  package init(path: String, modelType: String?) throws {
    self.path = path
    func companion(_ name: String) throws -> JSON? {
      FileManager.default.fileExists(atPath: path + "/" + name)
        ? try Self.json(name, in: path) : nil
    }
    settings = try TokenizerSettings(
      config: companion("tokenizer_config.json"),
      specialTokensMap: companion("special_tokens_map.json"),
      addedTokens: companion("added_tokens.json"), modelType: modelType)
  }

  /// nil when the folder holds no vocabulary.
  package func tokenizer() throws -> Tokenizer? {
    let pairs = has("vocab.json") || has("merges.txt")
    if pairs, settings.isByteLevel || !has("tokenizer.model") { return try bytePairs() }
    if has("tokenizer.model") { return try sentencePiece() }
    if has("tiktoken.model") { return try tiktoken("tiktoken.model") }
    let ranked = try FileManager.default.contentsOfDirectory(atPath: path)
      .filter { $0.hasSuffix(".tiktoken") }.sorted()
    guard ranked.count <= 1 else {
      throw TokenizerError.unknownKind(
        file: ranked[1], reason: "\(ranked[0]) stands beside it, and one of them is the model's")
    }
    if let file = ranked.first { return try tiktoken(file) }
    if let file = Self.foreign.first(where: has) {
      throw TokenizerError.unknownKind(
        file: file, reason: "Nibble does not read vocabularies of that kind")
    }
    return nil
  }

  private func has(_ name: String) -> Bool {
    FileManager.default.fileExists(atPath: path + "/" + name)
  }

  private static func json(_ name: String, in path: String) throws -> JSON {
    let bytes = try bytes(name, in: path)
    do { return try JSON(parsing: bytes) } catch {
      throw TokenizerError.badFile(path + "/" + name, reason: "\(error)")
    }
  }

  private func bytes(_ name: String) throws -> [UInt8] { try Self.bytes(name, in: path) }

  private static func bytes(_ name: String, in path: String) throws -> [UInt8] {
    let file: MappedFile
    do { file = try MappedFile(path: path + "/" + name) } catch { throw FormatError.file(error) }
    guard file.count <= sizeLimit else {
      throw TokenizerError.tooLong("\(name) in bytes", length: file.count, limit: sizeLimit)
    }
    return Bytes(file, 0..<file.count).array
  }

  private func bytePairs() throws -> Tokenizer {
    for (name, other) in [("merges.txt", "vocab.json"), ("vocab.json", "merges.txt")]
    where !has(name) {
      throw TokenizerError.badFile(other, reason: "\(name), which belongs to it, is missing")
    }
    return try Tokenizer(
      vocabulary: Self.json("vocab.json", in: path), merges: bytes("merges.txt"),
      settings: settings)
  }

  /// A `tokenizer.model` that is text holds ranks in tiktoken's format, as Llama 3's does.
  private func sentencePiece() throws -> Tokenizer {
    let bytes = try bytes("tokenizer.model")
    let isText = bytes.prefix(256).allSatisfy { (0x20..<0x7F).contains($0) || $0 == 0x0A }
    return isText && !bytes.isEmpty
      ? try Tokenizer(tiktoken: bytes, settings: settings, file: "tokenizer.model")
      : try Tokenizer(sentencePiece: bytes, settings: settings)
  }

  private func tiktoken(_ file: String) throws -> Tokenizer {
    try Tokenizer(tiktoken: bytes(file), settings: settings, file: file)
  }
}
