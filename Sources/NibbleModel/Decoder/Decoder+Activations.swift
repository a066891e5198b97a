import NibbleTensor

/// What quantized layers multiply whose scheme leaves activations float.
public enum FloatActivations: String, Sendable, Hashable, CaseIterable {
  /// As the scheme says.
  case float
  /// Rounded to int8 as they come, a scale for each token and 32 neighbouring inputs or fewer: products
  /// run in integers.
  case int8
}

extension Decoder {
  /// The same model, with float activations of int8 and int4 weights as `choice` says.
  ///
  /// Source: llama.cpp rounds activations to Q8_0, blocks of 32 too, in the same place.
  public func running(floatActivations choice: FloatActivations) -> Decoder {
    guard choice == .int8 else { return self }
    var decoder = self
    decoder.blocks = blocks.map { block in
      var block = block
      for (id, linear) in block.linears {
        if let weight = linear.weight.withInt8Activations {
          block.linears[id]?.weight = weight
        }
      }
      return block
    }
    if let weight = head.withInt8Activations { decoder.head = weight }
    return decoder
  }
}

extension Weight {
  /// Nil when it multiplies something else already, or is not made of integers.
  fileprivate var withInt8Activations: Weight? {
    guard case .quantized(let matrix, nil) = self, case .int = matrix.scheme.format else {
      return nil
    }
    // Groups of a weight that are finer cut the product already.
    let group = if case .group(let size) = matrix.scheme.granularity { min(32, size) } else { 32 }
    guard group.isMultiple(of: 8) else { return nil }
    return .quantized(matrix, inputs: InputRounding(.dynamicPerGroup(.int8, group)))
  }
}
