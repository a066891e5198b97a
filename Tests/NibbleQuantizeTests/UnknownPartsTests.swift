import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import Testing
import TinyModel

/// What a config or the weights say and the family's arithmetic does not do.
@Suite struct UnknownPartsTests {
  /// The heads of the tiny model have 16 channels.
  @Test(
    arguments: [
      ("partial_rotary_factor", 0.5), ("attention_multiplier", 0.015625), ("logit_scale", 0.0625),
      ("query_pre_attn_scalar", 256), ("layer_types", ["full_attention", "sliding_attention"]),
      ("residual_multiplier", 0.22), ("use_qk_norm", true), ("final_logit_softcapping", 30.0),
      ("no_rope_layers", [1, 1, 0]), ("num_local_experts", 8), ("qkv_bias", true),
      ("rope_interleaved", true), ("a_key_of_next_year", "x"), ("use_sliding_window", true),
      ("quantization", ["bits": 4]), ("is_causal", false),
      ("rope_parameters", ["rope_type": "default", "partial_rotary_factor": 0.5]),
      ("rope_parameters", ["full_attention": ["rope_type": "default"]]),
    ] as [(String, JSON)])
  func aKeyThatMayChangeTheArithmeticIsRefusedByName(_ key: String, _ value: JSON) throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder, config: [key: value])
      let nested = value["rope_type"] != nil ? "partial_rotary_factor" : "full_attention"
      let name = key == "rope_parameters" ? "rope_parameters.\(nested)" : key
      for work in [
        { _ = try LoadedModel(path: folder) }, { _ = try TinyRun().plan(folder) },
        {
          _ = try LoadedModel(
            path: folder, rounding: .w8a8, on: Compute(threads: 1, precision: .f32))
        },
      ] as [() throws -> Void] {
        let error = try #require(throws: (any Error).self) { try work() }
        #expect("\(error)".contains("--ignore-key \(name)"), "\(error)")
        #expect("\(error)".contains(folder), "\(error)")
      }
      // Whoever says that it changes nothing is believed.
      let checkpoint = try Checkpoint(path: folder).ignoring([name])
      #expect(try LoadedModel(checkpoint).decoder.shape.blocks.count == 3)
      #expect(
        try Plan(
          checkpoint, recipe: .w8a8, exporter: CompressedTensors(),
          windows: WindowSizes(heldOut: [8])
        ).decoder != nil)
    }
  }

  /// Keys of published configs, and values that say what a Llama does anyway.
  @Test func harmlessKeysAndValuesPass() throws {
    let keys: [String: JSON] = [
      "partial_rotary_factor": 1.0, "attention_multiplier": 0.25, "logit_scale": 1,
      "query_pre_attn_scalar": 16,
      "layer_types": .array(Array(repeating: "full_attention", count: 3)),
      "residual_multiplier": 1.0, "use_qk_norm": false, "final_logit_softcapping": .null,
      "no_rope_layers": [1, 1, 1], "num_local_experts": 0, "qkv_bias": false,
      "rope_interleaved": false, "use_sliding_window": false, "max_window_layers": 28,
      "is_causal": true, "rope_scaling": .null, "quantization_config": .null,
      "rope_parameters": [
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1,
      ],
      // SmolLM2-135M-Instruct.
      "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
      "initializer_range": 0.041666666666666664, "is_llama_config": true, "mlp_bias": false,
      "pad_token_id": 2, "pretraining_tp": 1, "transformers_version": "4.42.3",
      "transformers.js_config": ["kv_cache_dtype": ["q4f16": "float16"]], "use_cache": true,
      // Llama, Mistral and their fine-tuned kin.
      "_name_or_path": "meta-llama/Llama-2-7b-hf", "max_sequence_length": 2048,
      "auto_map": ["AutoConfig": "x"], "unsloth_version": "2026.1", "dtype": "float16",
      "_attn_implementation_autoset": true, "tokenizer_class": "LlamaTokenizer",
      "id2label": ["0": "LABEL_0"], "do_sample": true, "torchscript": false,
      "original_max_position_embeddings": 8192,
    ]
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder, config: keys)
      #expect(try LoadedModel(path: folder).decoder.shape.blocks.count == 3)
      #expect(try TinyRun().plan(folder).familyError == nil)
    }
  }

  @Test(arguments: [
    ("model.layers.1.self_attn.q_norm.weight", [16]), ("model.layers.0.extra", [2, 2]),
    ("model.layers.2.input_layernorm.bias", [64]), ("lm_head.bias", [128]),
    ("model.layers.0.mlp.experts.gate_up_proj", [2, 64, 8]), ("vision_tower.x.weight", [2, 2]),
  ])
  func aTensorThatTheArithmeticPassesOverIsRefusedByName(_ name: String, _ shape: [Int]) throws {
    try inTemporaryFolder { folder in
      let count = shape.reduce(1, *)
      try TinyModel().write(
        in: folder,
        adding: [
          (.init(name: name, dtype: .f16, shape: shape), [Float](repeating: 0.5, count: count))
        ])
      let end = name.hasPrefix("model.layers.") ? String(name.dropFirst(15)) : name
      for work in [
        { _ = try LoadedModel(path: folder) }, { _ = try TinyRun().plan(folder) },
      ] as [() throws -> Void] {
        let error = try #require(throws: (any Error).self) { try work() }
        #expect("\(error)".contains("--ignore-key \(end)"), "\(error)")
      }
      _ = try LoadedModel(Checkpoint(path: folder).ignoring([end]))
    }
  }

  @Test func buffersOfOldCheckpointsAndASpareHeadPass() throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      model.tiesHead = true
      try model.write(
        in: folder,
        adding: [
          (
            .init(name: "model.layers.0.self_attn.rotary_emb.inv_freq", dtype: .f32, shape: [8]),
            [Float](repeating: 1, count: 8)
          ),
          (
            .init(name: "lm_head.weight", dtype: .f16, shape: [128, 64]),
            [Float](repeating: 1, count: 128 * 64)
          ),
        ])
      _ = try LoadedModel(path: folder)
    }
  }

  @Test(arguments: [1, 2, 4, 30])
  func blocksThatAreNotThoseOfTheWeightsAreRefused(_ blocks: Int) throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder, config: ["num_hidden_layers": JSON(blocks)])
      for work in [
        { _ = try LoadedModel(path: folder) }, { _ = try TinyRun().plan(folder) },
        { _ = try Checkpoint(path: folder).decoderShape() },
      ] as [() throws -> Void] {
        let error = try #require(throws: (any Error).self) { try work() }
        #expect("\(error)".contains("num_hidden_layers is \(blocks)"), "\(error)")
        #expect("\(error)".contains("hold 3 blocks"), "\(error)")
      }
    }
  }

  @Test func aNameToIgnoreThatIsNowhereIsRefused() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder, config: ["logit_scale": 2])
      let checkpoint = try Checkpoint(path: folder)
      for name in ["logit_scal", "norm", "rope_scaling.x", "", "weights"] {
        let error = try #require(throws: ModelError.self) {
          try checkpoint.ignoring(["logit_scale", name])
        }
        #expect(error == .nothingToIgnore(name, path: folder))
      }
    }
  }

  /// A quantized checkpoint is held against what its format stores, and no more.
  @Test func tensorsOfAFormatAreKnownAndOthersAreNot() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      try TinyRun(.w8a8).run(source, to: output)
      _ = try LoadedModel(path: output)
      // The order of inputs that a quantizer may store, and that nobody here reads.
      try rename(
        "model.layers.0.mlp.down_proj.weight_scale",
        to: "model.layers.0.mlp.down_proj.weight_g_idx",
        in: output + "/model.safetensors")
      let error = try #require(throws: ModelError.self) { try LoadedModel(path: output) }
      #expect("\(error)".contains("mlp.down_proj.weight_g_idx"), "\(error)")
    }
  }

  /// Renames a tensor in place: the two names are equally long.
  private func rename(_ name: String, to other: String, in path: String) throws {
    let url = URL(fileURLWithPath: path)
    var data = try Data(contentsOf: url)
    let range = try #require(data.range(of: Data("\"\(name)\"".utf8)))
    #expect(name.utf8.count == other.utf8.count)
    data.replaceSubrange(range, with: Data("\"\(other)\"".utf8))
    try data.write(to: url)
  }
}
