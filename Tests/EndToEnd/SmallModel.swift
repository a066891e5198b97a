import Foundation
import NibbleFormats
import TinyModel

/// Models whose tokens are bytes, so that every text can be read.
enum SmallModel {
  static func write(
    _ folder: String, blocks: Int = 2, seed: UInt64 = 1, config changes: [String: JSON] = [:],
    tokenizer: JSON? = tokenizer
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

  /// 256 tokens spelled as byte-level BPE spells the bytes, and no merges.
  static let tokenizer: JSON = {
    var vocabulary = JSONObject()
    var next: UInt32 = 256
    for byte in UInt32(0)..<256 {
      let isShown = (33...126).contains(byte) || (161...172).contains(byte) || byte >= 174
      let scalar = isShown ? byte : next
      if !isShown { next += 1 }
      vocabulary[String(Character(Unicode.Scalar(scalar)!))] = JSON(Int(byte))
    }
    let byteLevel: JSON = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    ]
    return [
      "version": "1.0", "added_tokens": [], "normalizer": .null, "pre_tokenizer": byteLevel,
      "post_processor": .null, "decoder": byteLevel,
      "model": [
        "type": "BPE", "dropout": .null, "unk_token": .null, "vocab": .object(vocabulary),
        "merges": [],
      ],
    ]
  }()

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
