import Foundation
import NibbleFormats
import NibbleText
import Testing

/// Vocabulary files made by `Fixtures/tokenizer_files/make.py`, with what their own code does with them.
struct TokenizerFilesFixture {
  struct Case {
    var bytes: [UInt8]
    var special: Bool
    var ids: [Int]
    /// nil where the oracle decodes without special tokens only.
    var text: String?
    /// nil where the oracle has a text of its own for an unknown token.
    var plain: String?
  }

  var modelType: String
  var files: [String: Data]
  var cases: [Case]

  static let names = [
    "gpt2", "opt", "legacy", "qwen2", "qwen3_5", "neox", "cohere", "llama", "llama_legacy", "gemma",
    "internlm2", "internlm", "unigram_rules", "unigram", "qwen", "llama3",
  ]

  init(_ name: String) throws {
    let url = try #require(
      Bundle.module.url(forResource: "Fixtures/tokenizer_files/\(name)", withExtension: "json"))
    let json = try JSON(parsing: [UInt8](Data(contentsOf: url)))
    modelType = try #require(json["model_type"]?.string)
    files = [:]
    for (name, data) in try #require(json["files"]?.object) {
      let bytes: Data = try #require(data.string.flatMap { Data(base64Encoded: $0) })
      files[name] = bytes
    }
    cases = try #require(json["cases"]?.array).map { entry in
      Case(
        bytes: TokenizerFixture.bytes(try #require(entry["hex"]?.string)),
        special: try #require(entry["special"]?.bool as Bool?),
        ids: try #require(entry["ids"]?.array).compactMap(\.int), text: entry["text"]?.string,
        plain: entry["plain"]?.string)
    }
    try #require(!cases.isEmpty)
  }

  func tokenizer() throws -> Tokenizer {
    try Self.inFolder(files) { folder in
      try #require(try TokenizerFolder(path: folder, modelType: modelType).tokenizer())
    }
  }

  /// A folder with these files, for as long as `body` runs.
  static func inFolder<Result>(
    _ files: [String: Data], _ body: (String) throws -> Result
  ) throws -> Result {
    let folder = NSTemporaryDirectory() + "nibble-tokenizer-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for (name, data) in files { try data.write(to: URL(fileURLWithPath: folder + "/" + name)) }
    return try body(folder)
  }
}
