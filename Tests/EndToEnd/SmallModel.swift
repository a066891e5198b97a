import Foundation
import NibbleFormats
import TinyModel

/// Models whose tokens are bytes, so that every text can be read.
enum SmallModel {
  static func write(
    _ folder: String, blocks: Int = 2, seed: UInt64 = 1, config changes: [String: JSON] = [:],
    tokenizer: JSON? = ByteTokenizer.json
  ) throws {
    var model = TinyModel()
    (model.blocks, model.vocabulary, model.seed) = (blocks, 256, seed)
    try model.write(to: URL(fileURLWithPath: folder))
    var config = model.config
    for (field, value) in changes { config.set(field, value) }
    try Data(config.text().utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
    if let tokenizer {
      try Data(tokenizer.text().utf8).write(to: URL(fileURLWithPath: folder + "/tokenizer.json"))
    }
  }

  /// Options that make a run short and its verdict acceptable.
  static let short = [
    "--recipe", "w8a8", "--verdict-windows", "2", "--verdict-window", "32", "--max-kl", "10",
  ]

  /// The same, with blocks that take long enough to be interrupted in.
  static let long = ["--recipe", "w8a8", "--verdict-window", "256", "--max-kl", "10"]

  static func quantize(
    _ source: String, _ output: String, _ more: String..., recipe: [String] = short
  ) throws -> Call {
    try Call(["quantize", source, "-o", output, "--spill-seconds", "0"] + recipe + more)
  }
}
