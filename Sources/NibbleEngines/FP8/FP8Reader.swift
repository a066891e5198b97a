import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a checkpoint in the format ``FP8`` as the weights of a decoder.
///
/// A layer is quantized when its weight is stored as E4M3.
public struct FP8Reader: EngineReader, CheckpointSource {
  public let checkpoint: Checkpoint
  private let weights: WeightScheme
  private let activations: ActivationScheme

  package static let method = "fp8"

  package static func storedNames(_ decoder: DecoderShape) -> StoredNames {
    StoredNames(
      linear: ["weight_scale", "weight_scale_inv", "input_scale"],
      attention: ["k_scale", "v_scale"])
  }

  package static func open(
    _ checkpoint: Checkpoint, _ decoder: DecoderShape, _ settings: ReaderSettings
  ) throws(ModelError) -> FP8Reader { try FP8Reader(checkpoint) }

  /// - Throws: `ModelError`, which names a setting that Nibble does not support.
  public init(_ checkpoint: Checkpoint) throws(ModelError) {
    self.checkpoint = checkpoint
    let config = checkpoint.config["quantization_config"] ?? .null
    func refuse(_ field: String, _ reason: String) -> ModelError {
      .config(
        path: checkpoint.configPath, field: "quantization_config.\(field)", reason: reason)
    }
    let isStatic: Bool
    switch config["activation_scheme"]?.string {
    case "dynamic": isStatic = false
    case "static": isStatic = true
    default: throw refuse("activation_scheme", "is neither \"dynamic\" nor \"static\"")
    }
    guard let block = config["weight_block_size"], !block.isNull else {
      weights = WeightScheme(format: .e4m3, granularity: .tensor)
      activations = isStatic ? .staticPerTensor(.e4m3) : .dynamicPerToken(.e4m3)
      return
    }
    let sizes = block.array?.compactMap(\.int).filter { (1...1 << 20).contains($0) } ?? []
    guard sizes.count == 2, block.array?.count == 2 else {
      throw refuse("weight_block_size", "is not two numbers, rows and columns")
    }
    guard !isStatic else {
      throw refuse("activation_scheme", "is \"static\", which does not go with weights in blocks")
    }
    weights = WeightScheme(
      format: .e4m3, granularity: .block(rows: sizes[0], columns: sizes[1]))
    activations = .dynamicPerGroup(.e4m3, sizes[1])
  }

  /// The scales of each block's KV cache; nil when the checkpoint has none.
  public func cacheScales(_ decoder: DecoderShape) throws(ModelError) -> [KeyValueScales]? {
    let first = decoder.blocks.first?.attentionPath ?? ""
    let isStatic = checkpoint.config["quantization_config"]?["kv_cache_scheme"]?.string == "static"
    guard isStatic || checkpoint.tensor(first + ".k_scale") != nil else { return nil }
    return try CacheTensors.read(.fp8, of: checkpoint, decoder)
  }

  public func weight(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    guard checkpoint.tensor(path + ".weight")?.dtype == .f8E4M3 else {
      return try checkpoint.weight(path, outputs: outputs, inputs: inputs)
    }
    guard weights.fits(outputs: outputs, inputs: inputs) else {
      throw .unsupported("\(path): [\(outputs), \(inputs)] does not fit \(weights)")
    }
    let grid = weights.grid(outputs: outputs, inputs: inputs)
    let scales =
      weights.granularity == .tensor
      ? try checkpoint.scales(path + ".weight_scale", [1])
      : try checkpoint.scales(path + ".weight_scale_inv", [grid.bands, grid.perRow])
    let range: InputRange? =
      activations.isStatic
      ? InputRange(scale: try checkpoint.scales(path + ".input_scale", [1])[0]) : nil
    return .quantized(
      QuantizedMatrix(
        scheme: weights, rows: outputs, columns: inputs,
        codes: try checkpoint.bytes(path + ".weight", .f8E4M3, [outputs, inputs]), scales: scales),
      inputs: InputRounding(activations, range: range))
  }
}
