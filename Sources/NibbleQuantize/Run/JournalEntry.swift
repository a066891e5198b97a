/// One finished unit of a quantization.
struct JournalEntry: Codable, Hashable {
  var unit: Int
  /// Of the unit's bytes in its shard, hexadecimal.
  var sha256: String
  /// Of the unit's tensors in the source, hexadecimal.
  var source: String
  var layers: [LayerReport]
  var steps: [StepReport] = []
  /// Calibration tokens that reached each expert of the block, where they were counted.
  var expertTokens: [Int]?
  /// Of the block's keys and values, when the recipe scales their cache.
  var cache: KeyValueRanges?
  /// Relative error of the quantized stream's states after this block.
  var runningError: Double?
  /// Of the states after this unit, when they were written out.
  var states: String?
}

/// What rounding cost one layer.
public struct LayerReport: Codable, Hashable, Sendable {
  public var path: String
  /// Signal-to-quantization-noise of the weight, dB; nil when nothing was lost.
  public var signalToNoise: Double?
  /// Of a layer whose codes are made to be compressed.
  public var sparsity: SparsityReport?
}
