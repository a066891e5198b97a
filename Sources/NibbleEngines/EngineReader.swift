package import NibbleModel
package import NibbleTensor

/// Reads the checkpoints of one format as the weights of a decoder, which runs on the stored codes.
package protocol EngineReader: WeightSource {
  /// The format's name, as ``NibbleModel/Checkpoint/quantizationMethod()`` says it.
  static var method: String { get }

  /// The tensors that the format stores, for the check of unknown ones.
  static func storedNames(_ decoder: DecoderShape) -> StoredNames

  /// Opens a checkpoint of this format.
  ///
  /// - Throws: `ModelError`, which names a setting that Nibble does not support.
  static func open(
    _ checkpoint: Checkpoint, _ decoder: DecoderShape, _ settings: ReaderSettings
  ) throws(ModelError) -> Self

  /// Calibrated scales of each block's KV cache; nil when there are none.
  func cacheScales(_ decoder: DecoderShape) throws(ModelError) -> [KeyValueScales]?
}

extension EngineReader {
  package func cacheScales(_ decoder: DecoderShape) throws(ModelError) -> [KeyValueScales]? { nil }
}

/// How a checkpoint is read.
package struct ReaderSettings {
  /// Whether the codes of a W8A8SC model stay compressed in memory.
  package var keepsCompressed = false
  /// For decompression of weights; nil uses all processors.
  package var compute: Compute?
}
