import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import TinyModel

/// Writes the shape of a tiny Llama as a GGUF file whose values are all 0.5: metadata is what counts.
struct TinyGGUF {
  enum Value {
    case u32(UInt32)
    case f32(Float)
    case string(String)
    case u32s([UInt32])
  }

  var model = TinyModel()
  var metadata: [(String, Value)]
  /// Beside the model's: F32, in Hugging Face's order of dimensions.
  var more: [(String, [Int])] = []

  init() {
    let model = TinyModel()
    metadata = [
      ("general.architecture", .string("llama")),
      ("llama.block_count", .u32(UInt32(model.blocks))),
      ("llama.context_length", .u32(512)), ("llama.embedding_length", .u32(UInt32(model.hidden))),
      ("llama.feed_forward_length", .u32(UInt32(model.intermediate))),
      ("llama.attention.head_count", .u32(UInt32(model.heads))),
      ("llama.attention.head_count_kv", .u32(UInt32(model.keyHeads))),
      ("llama.attention.layer_norm_rms_epsilon", .f32(1e-5)),
      ("llama.rope.dimension_count", .u32(UInt32(model.headSize))),
      ("llama.rope.freq_base", .f32(10_000)), ("llama.vocab_size", .u32(UInt32(model.vocabulary))),
    ]
  }

  mutating func set(_ key: String, _ value: Value?) {
    metadata.removeAll { $0.0 == key }
    if let value { metadata.append((key, value)) }
  }

  func write(to path: String) throws {
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
    let tensors = model.tensors.map { (Self.name($0.name), $0.shape) } + more
    file += Array("GGUF".utf8)
    number(UInt32(3))
    number(UInt64(tensors.count))
    number(UInt64(metadata.count))
    for (key, value) in metadata {
      text(key)
      switch value {
      case .u32(let value):
        number(UInt32(4))
        number(value)
      case .f32(let value):
        number(UInt32(6))
        number(value.bitPattern)
      case .string(let value):
        number(UInt32(8))
        text(value)
      case .u32s(let values):
        number(UInt32(9))
        number(UInt32(4))
        number(UInt64(values.count))
        for value in values { number(value) }
      }
    }
    var offset = 0
    for (name, shape) in tensors {
      text(name)
      number(UInt32(shape.count))
      for size in shape.reversed() { number(UInt64(size)) }
      number(UInt32(0))
      number(UInt64(offset))
      offset += (4 * shape.reduce(1, *) + 31) / 32 * 32
    }
    while file.count % 32 != 0 { file.append(0) }
    let half = FloatFormat.f32.encode([Float](repeating: 0.5, count: offset / 4).span)
    try Data(file + half).write(to: URL(fileURLWithPath: path))
  }

  private static func name(_ name: String) -> String {
    var name = name
    for (theirs, ours) in [
      ("model.layers.", "blk."), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
      ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
      ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
      ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
      ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"),
    ] {
      name = name.replacingOccurrences(of: theirs, with: ours)
    }
    return name
  }
}
