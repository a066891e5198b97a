/// Journal record of one finished unit of a quantization run.
struct JournalEntry: Codable, Hashable {
  var unit: Int
  /// SHA-256 of the unit's bytes in its shard, hexadecimal.
  var sha256: String
  /// SHA-256 of the unit's source tensors, hexadecimal.
  var source: String
  var layers: [LayerReport]
  var steps: [StepReport] = []
  /// Number of calibration tokens per expert of the block; nil if not counted.
  var expertTokens: [Int]?
  /// Ranges of the block's keys and values, if the recipe quantizes the KV cache.
  var cache: KeyValueRanges?
  /// Relative error of the quantized stream's hidden states after this block.
  var runningError: Double?
  /// SHA-256 of the file of hidden states after this unit; nil if they were not written.
  var states: String?
}

/// Quantization error of one layer.
public struct LayerReport: Codable, Hashable, Sendable {
  public var path: String
  /// Signal-to-quantization-noise ratio of the weight, in dB; nil if the codes are exact.
  public var signalToNoise: Double?
  /// Set only for a layer whose codes are chosen for compression.
  public var sparsity: SparsityReport?
}
