import NibbleTensor

/// How a layer treats its inputs if its scheme quantizes the weight alone.
public enum FloatActivations: String, Sendable, Hashable, CaseIterable {
  /// Inputs stay float, as the scheme says.
  case float
  /// Inputs are rounded to int8 at run time, with one scale per token and group of at most 32
  /// inputs. Products run in integers.
  case int8
}

extension Decoder {
  /// The same model. With `.int8`, layers with integer weights and float activations quantize their
  /// inputs.
  ///
  /// Source: llama.cpp rounds activations to Q8_0, also groups of 32, at the same place.
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
  /// The same weight with int8 inputs. Nil if it quantizes its inputs already or has no integer
  /// codes.
  fileprivate var withInt8Activations: Weight? {
    guard case .quantized(let matrix, nil) = self, case .integer = matrix.scheme.format.numbers
    else {
      return nil
    }
    // A smaller group size of the weight already splits the product into groups.
    let group = if case .group(let size) = matrix.scheme.granularity { min(32, size) } else { 32 }
    guard group.isMultiple(of: 8) else { return nil }
    return .quantized(matrix, inputs: InputRounding(.dynamicPerGroup(.int8, group)))
  }
}
