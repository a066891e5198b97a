public import NibbleTensor

extension Decoder {
  /// Rounds a float head to int8, with one scale per channel, and its inputs to int8, with one
  /// scale per token. A quantized head stays as it is. In a small model, the head is a fifth of the
  /// bytes read per token.
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
