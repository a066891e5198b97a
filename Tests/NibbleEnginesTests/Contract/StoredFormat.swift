import NibbleFormats
import NibbleTensor

/// The formats that engines read, as the specification of each describes it.
enum StoredFormat: CaseIterable {
  case float, int8, int8Static, int4, int4Asymmetric, fp8Channel, mxfp4, nvfp4
  case awq, gptq, gptq2, fp8Static, fp8Block, modeloptFP8, modeloptNVFP4, mlx, smoothQuant

  static let group = 128

  func store(_ path: String, _ n: Int, _ k: Int, in model: inout ContractModel) {
    let groups = k / Self.group
    func name(_ suffix: String) -> String { "\(path).\(suffix)" }
    switch self {
    case .float: model.add(name("weight"), .f16, [n, k])
    case .int8, .int8Static:
      model.add(name("weight"), .i8, [n, k])
      model.add(name("weight_scale"), .f32, [n, 1])
      if self == .int8Static { model.add(name("input_scale"), .f32, [1]) }
    case .int4, .int4Asymmetric:
      model.add(name("weight_packed"), .i32, [n, k / 8])
      model.add(name("weight_scale"), .f16, [n, groups])
      model.add(name("weight_shape"), .i64, [2])
      if self == .int4Asymmetric { model.add(name("weight_zero_point"), .i32, [n / 8, groups]) }
    case .fp8Channel:
      model.add(name("weight"), .f8E4M3, [n, k])
      model.add(name("weight_scale"), .f32, [n, 1])
    case .mxfp4:
      model.add(name("weight_packed"), .u8, [n, k / 2])
      model.add(name("weight_scale"), .u8, [n, k / 32])
    case .nvfp4:
      model.add(name("weight_packed"), .u8, [n, k / 2])
      model.add(name("weight_scale"), .f8E4M3, [n, k / 16])
      model.add(name("weight_global_scale"), .f32, [1], 100)
    case .awq:
      model.add(name("qweight"), .i32, [k, n / 8])
      model.add(name("qzeros"), .i32, [groups, n / 8])
      model.add(name("scales"), .f16, [groups, n])
    case .gptq, .gptq2:
      model.add(name("qweight"), .i32, [k / 8, n])
      let word: UInt32 = self == .gptq ? 0x7777_7777 : 0x8888_8888
      model.put(
        name("qzeros"), [groups, n / 8], words: [UInt32](repeating: word, count: groups * n / 8))
      model.add(name("scales"), .f16, [groups, n])
      model.put(name("g_idx"), [k], words: (0..<k).map { UInt32($0 / Self.group) })
    case .fp8Static:
      model.add(name("weight"), .f8E4M3, [n, k])
      model.add(name("weight_scale"), .f32, [1])
      model.add(name("input_scale"), .f32, [1])
    case .fp8Block:
      model.add(name("weight"), .f8E4M3, [n, k])
      model.add(name("weight_scale_inv"), .f32, [(n + 127) / 128, (k + 127) / 128])
    case .modeloptFP8:
      model.add(name("weight"), .f8E4M3, [n, k])
      model.add(name("weight_scale"), .f32, [])
      model.add(name("input_scale"), .f32, [])
    case .modeloptNVFP4:
      model.add(name("weight"), .u8, [n, k / 2])
      model.add(name("weight_scale"), .f8E4M3, [n, k / 16])
      model.add(name("weight_scale_2"), .f32, [])
      model.add(name("input_scale"), .f32, [])
    case .mlx:
      model.add(name("weight"), .u32, [n, k / 8])
      model.add(name("scales"), .f16, [n, k / 64], -0.01)
      model.add(name("biases"), .f16, [n, k / 64])
    case .smoothQuant:
      model.add(name("weight"), .i8, [n, k])
      model.add(name("scale"), .f32, [n, 1])
    }
  }

  /// Writes the format's config.
  func describe(_ model: inout ContractModel) {
    func compressed(_ format: String, _ weights: JSON, _ inputs: JSON = .null) {
      model.config.set(
        "quantization_config",
        [
          "quant_method": "compressed-tensors", "format": .string(format),
          "quantization_status": "compressed", "kv_cache_scheme": .null,
          "config_groups": [
            "group_0": [
              "targets": ["Linear"], "weights": weights, "input_activations": inputs,
              "output_activations": .null, "format": .string(format),
            ]
          ],
          "ignore": ["lm_head", "re:.*gate$", "re:.*shared_expert_gate$"],
        ])
    }
    func arguments(
      _ bits: Int, _ type: JSON, _ strategy: JSON, group: JSON = .null, symmetric: Bool = true,
      dynamic: Bool = false
    ) -> JSON {
      [
        "num_bits": JSON(bits), "type": type, "symmetric": .bool(symmetric), "strategy": strategy,
        "dynamic": .bool(dynamic), "group_size": group,
      ]
    }
    let group = JSON(Self.group)
    switch self {
    case .float: break
    case .int8:
      compressed(
        "int-quantized", arguments(8, "int", "channel"),
        arguments(8, "int", "token", dynamic: true))
    case .int8Static:
      compressed("int-quantized", arguments(8, "int", "channel"), arguments(8, "int", "tensor"))
    case .int4: compressed("pack-quantized", arguments(4, "int", "group", group: group))
    case .int4Asymmetric:
      compressed("pack-quantized", arguments(4, "int", "group", group: group, symmetric: false))
    case .fp8Channel:
      compressed(
        "float-quantized", arguments(8, "float", "channel"),
        arguments(8, "float", "token", dynamic: true))
    case .mxfp4: compressed("mxfp4-pack-quantized", arguments(4, "float", "group", group: 32))
    case .nvfp4:
      compressed("nvfp4-pack-quantized", arguments(4, "float", "tensor_group", group: 16))
    case .awq:
      model.config.set(
        "quantization_config",
        [
          "quant_method": "awq", "version": "gemm", "bits": 4, "group_size": group,
          "zero_point": true, "modules_to_not_convert": .null,
        ])
    case .gptq, .gptq2:
      let config: JSON = [
        "quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": false, "sym": true,
        "lm_head": false, "checkpoint_format": self == .gptq ? "gptq" : "gptq_v2",
      ]
      model.config.set("quantization_config", config)
      model.files["quantize_config.json"] = config.text()
    case .fp8Static:
      model.config.set(
        "quantization_config",
        ["quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]])
    case .fp8Block:
      model.config.set(
        "quantization_config",
        [
          "quant_method": "fp8", "activation_scheme": "dynamic", "ignored_layers": ["lm_head"],
          "weight_block_size": [128, 128],
        ])
    case .modeloptFP8, .modeloptNVFP4:
      model.config.set(
        "quantization_config",
        [
          "quant_method": "modelopt", "quant_algo": self == .modeloptFP8 ? "FP8" : "NVFP4",
          "group_size": 16, "ignore": ["lm_head"], "kv_cache_scheme": .null,
        ])
    case .mlx:
      model.config.set("quantization", ["group_size": 64, "bits": 4, "mode": "affine"])
      let hidden = model.hidden
      model.quantize("model.embed_tokens", 256, hidden)
      model.quantize("lm_head", 256, hidden)
    case .smoothQuant:
      model.config.set(
        "quantization_config", ["quant_method": "smooth_quant", "quant_dtype": "int8"])
    }
  }

  /// Engines that load the format.
  var engines: [String] {
    switch self {
    case .float:
      ["vllm", "transformers", "lmdeploy", "lmdeploy-pytorch", "sglang", "llama.cpp", "mlx"]
    case .int8: ["vllm", "transformers", "sglang", "llama.cpp", "vllm-ascend"]
    case .int8Static: ["vllm", "transformers", "vllm-ascend"]
    case .int4: ["vllm", "transformers", "lmdeploy", "sglang", "llama.cpp", "vllm-ascend"]
    case .int4Asymmetric: ["vllm", "lmdeploy", "sglang"]
    case .fp8Channel: ["vllm", "transformers", "sglang", "llama.cpp", "vllm-ascend"]
    case .mxfp4: ["vllm", "transformers", "sglang", "mlx"]
    case .nvfp4: ["vllm", "transformers", "sglang", "llama.cpp", "mlx"]
    case .awq: ["vllm", "transformers", "lmdeploy", "lmdeploy-pytorch", "sglang", "mlx"]
    case .gptq: ["vllm", "transformers", "lmdeploy", "sglang", "llama.cpp"]
    case .gptq2: ["vllm", "transformers"]
    case .fp8Static: ["vllm", "sglang", "lmdeploy-pytorch"]
    case .fp8Block: ["vllm", "transformers", "lmdeploy", "sglang", "llama.cpp", "mlx"]
    case .modeloptFP8: ["vllm", "sglang"]
    case .modeloptNVFP4: ["vllm", "sglang", "mlx"]
    case .mlx: ["mlx"]
    case .smoothQuant: ["lmdeploy-pytorch"]
    }
  }
}
