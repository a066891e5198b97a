import Foundation
import NibbleFormats
import Testing

@testable import NibbleEngines

/// A small GGUF file of one block, of which tests change keys and tensors.
struct SmallGGUF {
  enum Value {
    case u32(UInt32)
    case f32(Float)
    case text(String)
    case flag(Bool)
    case texts([String])
    case i32s([Int32])
  }

  var keys: [(String, Value)]
  /// Names and shapes in the file's order of sizes; all are F32.
  var tensors: [(String, [Int])]
  /// Bytes that the file loses at its end.
  var cut = 0
  /// Bytes of padding too many between the first two tensors.
  var hole = 0

  init() {
    let tokens = (0..<64).map { "t\($0)" }
    keys = [
      ("general.architecture", .text("qwen2")), ("general.file_type", .u32(0)),
      ("qwen2.context_length", .u32(128)), ("qwen2.embedding_length", .u32(32)),
      ("qwen2.block_count", .u32(1)), ("qwen2.feed_forward_length", .u32(64)),
      ("qwen2.attention.head_count", .u32(2)), ("qwen2.attention.head_count_kv", .u32(1)),
      ("qwen2.attention.layer_norm_rms_epsilon", .f32(1e-6)),
      ("tokenizer.ggml.model", .text("gpt2")), ("tokenizer.ggml.pre", .text("qwen2")),
      ("tokenizer.ggml.tokens", .texts(tokens)),
      ("tokenizer.ggml.token_type", .i32s([Int32](repeating: 1, count: 64))),
      ("tokenizer.ggml.merges", .texts(["t 1"])), ("tokenizer.ggml.eos_token_id", .u32(1)),
      ("tokenizer.ggml.add_bos_token", .flag(false)),
    ]
    tensors = [
      ("token_embd.weight", [32, 64]), ("output_norm.weight", [32]), ("output.weight", [32, 64]),
      ("blk.0.attn_norm.weight", [32]), ("blk.0.ffn_norm.weight", [32]),
      ("blk.0.attn_q.weight", [32, 32]), ("blk.0.attn_k.weight", [32, 16]),
      ("blk.0.attn_v.weight", [32, 16]), ("blk.0.attn_output.weight", [32, 32]),
      ("blk.0.ffn_gate.weight", [32, 64]), ("blk.0.ffn_up.weight", [32, 64]),
      ("blk.0.ffn_down.weight", [64, 32]), ("blk.0.attn_q.bias", [32]),
    ]
  }

  mutating func set(_ key: String, _ value: Value?) {
    let index = keys.firstIndex { $0.0 == key }
    if let index { keys.remove(at: index) }
    if let value { keys.append((key, value)) }
  }

  var bytes: [UInt8] {
    var file: [UInt8] = []
    func number<T: FixedWidthInteger>(_ value: T) {
      for shift in stride(from: 0, to: T.bitWidth, by: 8) {
        file.append(UInt8(truncatingIfNeeded: value >> T(shift)))
      }
    }
    func text(_ text: String) {
      number(UInt64(text.utf8.count))
      file += Array(text.utf8)
    }
    file += Array("GGUF".utf8)
    number(UInt32(3))
    number(UInt64(tensors.count))
    number(UInt64(keys.count))
    for (key, value) in keys {
      text(key)
      switch value {
      case .u32(let value):
        number(UInt32(4))
        number(value)
      case .f32(let value):
        number(UInt32(6))
        number(value.bitPattern)
      case .text(let value):
        number(UInt32(8))
        text(value)
      case .flag(let value):
        number(UInt32(7))
        file.append(value ? 1 : 0)
      case .texts(let values):
        number(UInt32(9))
        number(UInt32(8))
        number(UInt64(values.count))
        for value in values { text(value) }
      case .i32s(let values):
        number(UInt32(9))
        number(UInt32(5))
        number(UInt64(values.count))
        for value in values { number(value) }
      }
    }
    var offset = 0
    for (index, (name, shape)) in tensors.enumerated() {
      text(name)
      number(UInt32(shape.count))
      for size in shape { number(UInt64(size)) }
      number(UInt32(0))
      number(UInt64(offset))
      offset += (4 * shape.reduce(1, *) + 31) / 32 * 32 + (index == 0 ? hole : 0)
    }
    while file.count % 32 != 0 { file.append(0) }
    return Array((file + [UInt8](repeating: 0, count: offset)).dropLast(cut))
  }

  func findings(_ engine: String = "llama.cpp") throws -> [Finding] {
    try inTemporaryFolder { folder in
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let path = folder.path + "/model.gguf"
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      let contract = try #require(EngineContract.named(engine))
      return contract.findings(in: try CheckpointFacts(path: path))
    }
  }
}

@Suite struct GGUFContractTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var row: Int
    var issue: String
    var check: String
    var damage: @Sendable (inout SmallGGUF) -> Void
    var testDescription: String { "\(row) \(issue): \(check)" }

    init(
      _ row: Int, _ issue: String, _ check: String,
      _ damage: @escaping @Sendable (inout SmallGGUF) -> Void
    ) {
      (self.row, self.issue, self.check, self.damage) = (row, issue, check, damage)
    }
  }

  static let cases = [
    Case(70, "llama.cpp#5910", "VOC") { $0.tensors[0].1 = [32, 60] },
    Case(71, "llama.cpp#6490", "SET") { $0.tensors.append(("rope_freqs.weight", [8])) },
    Case(71, "llama.cpp#7157", "SET") { $0.tensors.removeAll { $0.0 == "blk.0.ffn_up.weight" } },
    Case(72, "llama.cpp#3917", "SET") { $0.tensors.removeFirst() },
    Case(74, "llama.cpp#6885", "SHARD") { $0.cut = 4096 },
    Case(74, "offsets with a hole", "SHARD") { $0.hole = 64 },
    Case(75, "llama.cpp#12122", "TOK") { $0.set("tokenizer.ggml.pre", .text("unheard-of")) },
    Case(75, "llama.cpp#9927", "TOK") { $0.set("tokenizer.ggml.pre", nil) },
    Case(76, "llama.cpp#7898", "TOK") { $0.set("tokenizer.ggml.add_bos_token", nil) },
    Case(77, "wllama#120", "TOK") { $0.set("tokenizer.ggml.merges", nil) },
    Case(4, "keys of the architecture", "CFG") { $0.set("qwen2.context_length", nil) },
    Case(4, "an unknown architecture", "ENG") { $0.set("general.architecture", .text("opt")) },
    Case(4, "fewer types than tokens", "TOK") { $0.set("tokenizer.ggml.token_type", .i32s([1])) },
    Case(4, "rows of another size", "SET") { $0.tensors[5].1 = [64, 32] },
  ]

  @Test func aGoodFileHasNoFindings() throws {
    let findings = try SmallGGUF().findings()
    #expect(findings.isEmpty, "\(findings)")
  }

  @Test(arguments: cases) func brokenFilesAreFound(_ broken: Case) throws {
    var file = SmallGGUF()
    broken.damage(&file)
    let found = try file.findings()
    #expect(found.contains { $0.check == broken.check }, "\(found)")
  }

  @Test func vLLMNoLongerReadsIt() throws {
    #expect(try SmallGGUF().findings("vllm").map(\.check) == ["ENG"])
  }

  /// Any byte of the header may be anything.
  @Test func damagedHeadersGiveFindingsOrNone() throws {
    let whole = SmallGGUF().bytes
    var random = SplitMix(state: 5)
    try inTemporaryFolder { folder in
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let path = folder.path + "/model.gguf"
      let contract = try #require(EngineContract.named("llama.cpp"))
      for _ in 0..<300 {
        var bytes = whole
        for _ in 0..<1 + random.next() % 4 {
          bytes[Int(random.next() % 2000)] = UInt8(truncatingIfNeeded: random.next())
        }
        try Data(bytes.prefix(Int(random.next() % UInt64(bytes.count)))).write(
          to: URL(fileURLWithPath: path))
        _ = contract.findings(in: try CheckpointFacts(path: path))
      }
    }
  }
}
