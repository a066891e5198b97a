package import NibbleModel
package import NibbleTensor

/// A vector of a quantized model that can be learned while the codes stay: the scales of a weight, or
/// the weight of a norm.
package struct TunedVector: Sendable {
  package enum Place: Hashable, Sendable {
    case block(Int, BlockParameter)
    case finalNorm
  }

  package let place: Place
  /// The values as the model runs with them.
  package let values: [Float]
  /// Format in which they are stored, less `offset`.
  package let format: FloatFormat
  package let offset: Float

  package init(_ place: Place, values: [Float], format: FloatFormat, offset: Float = 0) {
    self.place = place
    self.values = values
    self.format = format
    self.offset = offset
  }

  /// Values as they are read back after they were stored.
  func stored(_ values: [Float]) -> [Float] { values.map { format.round($0 - offset) + offset } }
}
