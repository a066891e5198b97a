import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

/// What the metadata of a GGUF file says and a Llama does not do.
@Suite struct GGUFModelTests {
  private func load(_ file: TinyGGUF, _ body: (String) throws -> Void) throws {
    try inTemporaryFolder { folder in
      try file.write(to: folder + "/model.gguf")
      try body(folder + "/model.gguf")
    }
  }

  @Test func thePlainFileLoads() throws {
    try load(TinyGGUF()) { path in
      let shape = try LoadedModel(path: path).decoder.shape
      #expect(shape.blocks.count == 3 && shape.attention.headSize == 16 && shape.vocabulary == 128)
    }
  }

  @Test(arguments: [0, 1, 3, 8, 4_294_967_295] as [UInt32])
  func aRotationOfAPartOfTheHeadIsRefused(_ count: UInt32) throws {
    var file = TinyGGUF()
    file.set("llama.rope.dimension_count", .u32(count))
    try load(file) { path in
      let error = try #require(throws: ModelError.self) { try Checkpoint(path: path) }
      #expect("\(error)".contains("llama.rope.dimension_count"), "\(error)")
    }
    file.set("llama.rope.dimension_count", nil)
    try load(file) { _ = try LoadedModel(path: $0) }
  }

  @Test(arguments: [1, 2, 4, 30] as [UInt32])
  func blocksThatAreNotThoseOfTheWeightsAreRefused(_ blocks: UInt32) throws {
    var file = TinyGGUF()
    file.set("llama.block_count", .u32(blocks))
    try load(file) { path in
      let error = try #require(throws: ModelError.self) {
        try Checkpoint(path: path).decoderShape()
      }
      #expect("\(error)".contains("is \(blocks), but the weights hold 3 blocks"), "\(error)")
    }
  }

  @Test func metadataThatMayChangeTheArithmeticIsRefusedByName() throws {
    for (key, value) in [
      ("llama.expert_count", .u32(8)), ("llama.logit_scale", .f32(0.5)),
      ("llama.attention.sliding_window", .u32(128)), ("llama.attention.scale", .f32(0.1)),
    ] as [(String, TinyGGUF.Value)] {
      var file = TinyGGUF()
      file.set(key, value)
      try load(file) { path in
        let error = try #require(throws: ModelError.self) { try LoadedModel(path: path) }
        #expect("\(error)".contains("--ignore-key \(key)"), "\(error)")
        _ = try LoadedModel(Checkpoint(path: path).ignoring([key]))
      }
    }
    // What a plain model says of experts, of its name and of other architectures.
    var file = TinyGGUF()
    for (key, value) in [
      ("llama.expert_count", .u32(0)), ("general.name", .string("x")), ("qwen2.x", .u32(1)),
    ] as [(String, TinyGGUF.Value)] {
      file.set(key, value)
    }
    try load(file) { _ = try LoadedModel(path: $0) }
  }

  @Test func metadataOfAWrongKindIsRefused() throws {
    for (key, value) in [
      ("llama.attention.head_count_kv", .u32s([2, 2, 2])), ("llama.rope.freq_base", .u32(10_000)),
      ("llama.attention.key_length", .string("16")), ("llama.attention.value_length", .u32(8)),
    ] as [(String, TinyGGUF.Value)] {
      var file = TinyGGUF()
      file.set(key, value)
      try load(file) { path in
        let error = try #require(throws: ModelError.self) { try Checkpoint(path: path) }
        #expect("\(error)".contains(key), "\(error)")
      }
    }
  }

  /// Reading each value by decoding the whole vector takes minutes for one of this length.
  @Test func aLongVectorIsDecodedOnce() throws {
    var file = TinyGGUF()
    file.model.blocks = 1
    file.set("llama.block_count", .u32(1))
    file.more = [("blk.0.attn_q.bias", [1 << 20])]
    try load(file) { path in
      let values = try Checkpoint(path: path).vector(
        "model.layers.0.self_attn.q_proj.bias", count: 1 << 20)
      #expect(values == [Float](repeating: 0.5, count: 1 << 20))
    }
  }
}
