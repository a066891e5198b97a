public import NibbleFormats
import NibbleModel
public import NibbleQuantize
import NibbleTensor

extension CompressedTensors {
  public func config(_ source: JSON, _ plan: Plan) -> JSON {
    let head = plan.headPath
    let quantizesHead = plan.layers.contains { $0.path == head }
    let ignored = plan.keptFloat.filter { $0.isLinear }.map(\.path)
    var config = source
    // A quantized head no longer shares the embedding's tensor.
    if quantizesHead, source["tie_word_embeddings"]?.bool == true {
      config.set("tie_word_embeddings", false)
    }
    config.set(
      "quantization_config",
      Self.quantizationConfig(
        plan.layers, ignoring: (quantizesHead ? [] : [head]) + ignored,
        cache: plan.recipe.cache?.format))
    return config
  }

  /// The scheme of most layers targets the class `Linear`. Every other scheme lists its layers by
  /// name, which readers prefer to a class.
  static func quantizationConfig(
    _ all: [Plan.Layer], ignoring ignored: [String], cache: KeyValueFormat? = nil
  ) -> JSON {
    var schemes: [LinearScheme] = []
    for layer in all where !schemes.contains(layer.scheme) { schemes.append(layer.scheme) }
    let layers = Dictionary(grouping: all, by: \.scheme)
    let most = layers.values.map(\.count).max()
    let common = schemes.first { layers[$0]?.count == most }
    var groups: JSON = [:]
    for (index, scheme) in schemes.enumerated() {
      let paths = (layers[scheme] ?? []).map { JSON.string($0.path) }
      groups.set(
        "group_\(index)",
        [
          "targets": scheme == common ? ["Linear"] : .array(paths),
          "weights": arguments(scheme.weights),
          "input_activations": scheme.activations.map(arguments) ?? .null,
          "output_activations": .null,
          "format": .string(layout(scheme)?.rawValue ?? ""),
        ])
    }
    let formats = Set(schemes.compactMap { layout($0)?.rawValue })
    return [
      "quant_method": "compressed-tensors",
      "format": .string(formats.count == 1 ? formats.first ?? "" : "mixed-precision"),
      "quantization_status": "compressed",
      "config_groups": groups,
      "kv_cache_scheme": cache.map(scheme) ?? .null,
      "ignore": .array(ignored.map { .string($0) }),
      "global_compression_ratio": .null,
      "version": .string(packageVersion),
    ]
  }

  private static func arguments(_ scheme: WeightScheme) -> JSON {
    let (strategy, group): (String, JSON) =
      switch scheme.granularity {
      case .tensor: ("tensor", .null)
      case .channel, .rowGroups: ("channel", .null)
      case .group(let size): (scheme.format == .nvfp4 ? "tensor_group" : "group", JSON(size))
      case .block: ("block", .null)
      }
    var arguments: JSON = [
      "num_bits": JSON(scheme.format.numbers.bits),
      "type": scheme.format.isInteger ? "int" : "float", "symmetric": .bool(!scheme.hasZeroPoints),
      "strategy": .string(strategy), "dynamic": false, "group_size": group,
    ]
    if case .block(let rows, let columns) = scheme.granularity {
      arguments.set("block_structure", [JSON(rows), JSON(columns)])
    }
    switch scheme.format.scales {
    case .float: break
    case .powerOfTwo: arguments.set("scale_dtype", "torch.uint8")
    case .e4m3: arguments.set("scale_dtype", "torch.float8_e4m3fn")
    }
    return arguments
  }

  private static func arguments(_ scheme: ActivationScheme) -> JSON {
    let (strategy, group): (String, JSON) =
      switch scheme {
      case .dynamicPerToken: ("token", .null)
      case .dynamicPerTensor, .staticPerTensor, .staticAsymmetric: ("tensor", .null)
      case .dynamicPerGroup(_, let size): ("group", JSON(size))
      }
    return [
      "num_bits": 8, "type": scheme.format == .int8 ? "int" : "float",
      "symmetric": .bool(scheme != .staticAsymmetric), "strategy": .string(strategy),
      "dynamic": .bool(!scheme.isStatic), "group_size": group,
    ]
  }

  public func refusals(_ plan: Plan) -> [Refusal] {
    var refusals: [Refusal] = []
    if let layer = plan.layers.first(where: { Self.layout($0.scheme) == nil }) {
      refusals.append(
        .engine(
          layer.scheme.weights.format.scales == .float
            ? "\(layer.path): no engine loads weights in \(layer.scheme.weights.format). Write int8, "
              + "int4, fp8, mxfp4 or nvfp4, or measure it without writing: nibble eval --quantize."
            : "\(layer.path): compressed-tensors holds \(layer.scheme.weights.format) weights with "
              + "float activations only. Leave the activations float."))
    }
    if plan.decoder == nil,
      let layer = plan.layers.first(where: { $0.scheme.weights.format == .nvfp4 })
    {
      refusals.append(
        .engine(
          "\(layer.path): the parts of a layer that an engine fuses must share the float scale of "
            + "nvfp4 weights, and the parts of an unknown family are not known. Use --recipe mxfp4."
        ))
    }
    return refusals
  }

  /// Seen with transformers 5.23: KL 0.0098 from the source for gpt-oss; the others give Nibble's
  /// log-probabilities (Interop/run).
  public var familiesWithFloatExperts: Set<String> {
    ["gpt_oss", "qwen3_5_moe_text", "qwen3_5_moe", "gemma4_text", "gemma4"]
  }

  /// Layers that vLLM 0.32 cannot load or has no kernel for; one note per scheme.
  public func notes(_ plan: Plan) -> [String] {
    let layers = Dictionary(grouping: plan.layers, by: \.scheme)
    let cache = plan.recipe.cache?.format
    let cacheNotes =
      cache.map(\.isPerHead) ?? false
      ? ["vLLM reads scales of an fp8 cache only, not of \(cache?.rawValue ?? "")."] : []
    // Seen with 0.32: "There is no module or parameter named 'lm_head.weight_scale'".
    let headNotes = plan.layers.filter { $0.path == plan.decoder?.head.path }.map {
      "\($0.path): vLLM does not load a quantized head; transformers and Nibble do. For vLLM leave "
        + "--quantize-head out."
    }
    return cacheNotes + headNotes
      + layers.filter { !Self.isRunByVLLM($0.key) }.map { scheme, layers in
        "\(layers[0].path)\(layers.count == 1 ? "" : " and \(layers.count - 1) more"): vLLM does not "
          + "run compressed-tensors with \(scheme); Nibble does. For vLLM use a scale per channel and "
          + "dynamic activations per token."
      }
      .sorted()
  }

  static func isRunByVLLM(_ scheme: LinearScheme) -> Bool {
    let granularity = scheme.weights.granularity
    let isWhole: Bool
    let isGrouped: Bool
    switch granularity {
    case .tensor: (isWhole, isGrouped) = (true, false)
    case .channel, .rowGroups: (isWhole, isGrouped) = (true, true)
    case .group: (isWhole, isGrouped) = (false, true)
    case .block: (isWhole, isGrouped) = (false, false)
    }
    let weights = scheme.weights
    switch (weights.format.numbers, scheme.activations) {
    case (.integer(let bits), nil): return isGrouped && (bits == 4 || bits == 8)
    case (.integer(let bits), let activations?):
      guard !weights.hasZeroPoints, bits == 4 || bits == 8 else { return false }
      switch activations {
      case .dynamicPerToken(.int8): return bits == 8 ? isWhole : isGrouped
      case .staticPerTensor(.int8), .staticAsymmetric: return bits == 8 && isWhole
      default: return false
      }
    case (.minifloat(.e4m3), let activations):
      if case .group = granularity { return false }
      guard let activations, activations.isStatic else { return activations?.format != .int8 }
      // Weights in blocks cannot be combined with static activations.
      return activations == .staticPerTensor(.e4m3) && isWhole
    case (.minifloat, let activations): return weights.format.scales != .float && activations == nil
    }
  }
}
