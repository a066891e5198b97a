public import NibbleTensor

extension Decoder {
  /// Rounds a float head to int8, a scale a channel, with int8 inputs and a scale a token; a head that
  /// is quantized already stays. The head of a small model is a fifth of what a token reads.
  ///
  /// - Throws: when a value of the head is not finite.
  public mutating func quantizeHead(on compute: Compute) throws(ModelError) {
    guard case .float(let matrix) = head else { return }
    let scheme = WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel)
    do {
      let codes = try QuantizedMatrix(
        rounding: matrix, to: scheme, scaleFormat: .f32, releasing: true, on: compute)
      head = .quantized(codes, inputs: InputRounding(.dynamicPerToken(.int8)))
    } catch { throw .nonFinite(tensor: shape.head.path, index: error.index) }
  }
}
