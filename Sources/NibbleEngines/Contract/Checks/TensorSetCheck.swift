import NibbleModel

/// SET and SYM: the tensors of each layer are those of its scheme.
enum TensorSetCheck {
  /// Faults of quantized layers: what is missing, and what is there beside it.
  static func tensors(_ facts: CheckpointFacts) -> [Fault] {
    var faults: [Fault] = []
    for linear in facts.linears {
      guard let scheme = linear.scheme, scheme.layout != .other, let module = linear.module,
        module.isQuantized
      else { continue }
      let expected = ExpectedTensor.all(
        scheme, outputs: linear.outputs, inputs: linear.inputs)
      let missing = expected.filter { $0.isRequired && module[$0.suffix] == nil }.map(\.suffix)
      if !missing.isEmpty {
        faults.append(
          Fault(linear.path, "\(missing.joined(separator: ", ")) missing for \(scheme)"))
      }
      var known = Set(expected.map(\.suffix))
      known.formUnion(["weight_zero_point", "qzeros"])
      known.formUnion(["k_scale", "v_scale", "q_scale", "output_scale"])
      let extra = StoredModule.quantized.filter { module[$0] != nil && !known.contains($0) }
      if !extra.isEmpty {
        let names = extra.sorted().joined(separator: ", ")
        faults.append(Fault(linear.path, "\(names) stored, which \(scheme) does not have"))
      }
    }
    return faults
  }

  /// Faults of the model: layers, norms and embeddings of the family that are not there.
  static func model(_ facts: CheckpointFacts) -> [Fault] {
    guard let shape = facts.shape else { return [] }
    var faults: [Fault] = []
    for linear in facts.linears {
      let stored = linear.module.map {
        $0.isQuantized || $0["weight"] != nil || $0["weight_packed"] != nil
      }
      if stored != true, linear.kind != .head {
        faults.append(Fault(linear.path, "no weight of it"))
      }
    }
    var norms = [shape.finalNorm, shape.embedding.norm].compactMap(\.self)
      .filter(\.hasWeight).map(\.path)
    for block in shape.blocks {
      norms += block.norms.filter(\.hasWeight).map { block.path(of: $0) }
      for stacked in block.stackedTensors
      where !facts.weights.tensors.contains(where: { $0.name.hasPrefix(stacked) }) {
        faults.append(Fault(stacked, "no weight of it"))
      }
    }
    for path in norms + [shape.embedding.path] where facts.modules[path] == nil {
      faults.append(Fault(path, "no weight of it"))
    }
    return faults
  }

  /// Zero points where the config says there are none, or none where it says there are some.
  static func zeroPoints(_ facts: CheckpointFacts) -> [Fault] {
    facts.linears.compactMap { linear in
      guard let scheme = linear.scheme, let module = linear.module, module.isQuantized,
        let zero = ExpectedTensor.zeroPoint(scheme, outputs: nil, inputs: nil)
      else { return nil }
      let isStored = module[zero.suffix] != nil
      guard isStored == scheme.isSymmetric else { return nil }
      return Fault(
        linear.path,
        isStored
          ? "\(zero.suffix) is stored, and the config says symmetric"
          : "\(zero.suffix) is missing, and the config says asymmetric")
    }
  }
}
