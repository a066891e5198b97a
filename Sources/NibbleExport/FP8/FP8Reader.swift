import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a checkpoint of the format ``FP8`` as the weights of a decoder.
///
/// A layer is quantized when its weight is stored as E4M3. Scales of a quantized cache are left
/// alone: the cache stays float.
public struct FP8Reader: WeightSource {
  private let checkpoint: Checkpoint

  /// - Throws: `ModelError` naming the setting that Nibble does not run.
  public init(_ checkpoint: Checkpoint) throws(ModelError) {
    self.checkpoint = checkpoint
    let config = checkpoint.config["quantization_config"] ?? .null
    func refuse(_ field: String, _ reason: String) -> ModelError {
      .config(
        path: checkpoint.configPath, field: "quantization_config.\(field)", reason: reason)
    }
    guard config["weight_block_size"]?.isNull ?? true else {
      throw refuse("weight_block_size", "asks for blocks, which Nibble does not run")
    }
    guard config["activation_scheme"]?.string == "dynamic" else {
      throw refuse("activation_scheme", "is not \"dynamic\", which is what Nibble runs")
    }
  }

  public func vector(_ name: String, count: Int) throws(ModelError) -> [Float]? {
    try checkpoint.vector(name, count: count)
  }

  public func weight(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    guard checkpoint.tensor(path + ".weight")?.dtype == .f8E4M3 else {
      return try checkpoint.weight(path, outputs: outputs, inputs: inputs)
    }
    return .quantized(
      QuantizedMatrix(
        scheme: WeightScheme(format: .e4m3, granularity: .tensor), rows: outputs, columns: inputs,
        codes: try checkpoint.bytes(path + ".weight", .f8E4M3, [outputs, inputs]),
        scales: try checkpoint.scales(path + ".weight_scale", [1])),
      activations: .dynamicPerToken(.e4m3))
  }
}
