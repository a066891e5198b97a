import NibbleFormats

/// SHAPE: types and shapes follow from the sizes, the group and the bits.
enum TensorShapeCheck {
  static func tensors(_ facts: CheckpointFacts) -> [Fault] {
    var faults: [Fault] = []
    for linear in facts.linears {
      guard let module = linear.module else { continue }
      guard let scheme = linear.scheme, module.isQuantized else {
        faults += floatWeight(linear, module)
        continue
      }
      if scheme.group > 0, let inputs = linear.inputs, !inputs.isMultiple(of: scheme.group) {
        faults.append(
          Fault(linear.path, "groups of \(scheme.group) do not divide its \(inputs) inputs"))
      }
      var expected = ExpectedTensor.all(scheme, outputs: linear.outputs, inputs: linear.inputs)
      if let zero = ExpectedTensor.zeroPoint(
        scheme, outputs: linear.outputs, inputs: linear.inputs)
      {
        expected.append(zero)
      }
      for tensor in expected {
        guard let stored = module[tensor.suffix] else { continue }
        if !tensor.dtypes.contains(stored.dtype) {
          let types = tensor.dtypes.map(\.rawValue).sorted().joined(separator: " or ")
          faults.append(
            Fault(stored.name, "\(tensor.suffix) is \(stored.dtype.rawValue), not \(types)"))
        }
        if !tensor.shapes.isEmpty, !tensor.shapes.contains(stored.shape) {
          faults.append(
            Fault(
              stored.name,
              "\(tensor.suffix) is \(shown(stored.shape)), not \(shown(tensor.shapes[0])), as \(scheme) has"
            ))
        }
      }
    }
    return faults
  }

  private static func floatWeight(_ linear: LinearFact, _ module: StoredModule) -> [Fault] {
    guard let weight = module["weight"], weight.isFloat, let n = linear.outputs,
      let k = linear.inputs, weight.shape != [n, k], weight.shape != [n, 1, k]
    else { return [] }
    return [Fault(weight.name, "weight is \(shown(weight.shape)), not \(shown([n, k]))")]
  }

  /// Layers that are stored fused with one scale for all their parts.
  static func fusedScalar(_ facts: CheckpointFacts) -> [Fault] {
    facts.linears.compactMap { linear in
      guard FusedModules.storedFused.contains(linear.name), linear.scheme != nil,
        let module = linear.module
      else { return nil }
      let scalars = ["weight_scale", "input_scale"].filter {
        module[$0].map { $0.isScalar } ?? false
      }
      guard !scalars.isEmpty else { return nil }
      return Fault(
        linear.path, "\(scalars.joined(separator: ", ")) holds one number for all fused parts")
    }
  }

  /// A shape in a form for messages.
  private static func shown(_ shape: [Int]) -> String {
    "[\(shape.prefix(8).map { "\($0)" }.joined(separator: ", "))]"
  }
}
