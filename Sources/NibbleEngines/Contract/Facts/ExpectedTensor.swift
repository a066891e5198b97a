import NibbleFormats

/// A tensor that a scheme stores for each layer.
struct ExpectedTensor {
  var suffix: String
  var dtypes: Set<DType>
  /// Any of these; empty if the size of the layer is not known.
  var shapes: [[Int]]
  var isRequired = true

  private static let floats: Set<DType> = [.f16, .bf16, .f32]

  /// All tensors but zero points and biases.
  ///
  /// Sources: compressed-tensors 0.20, AutoAWQ 0.2.9, GPTQModel, modelopt 0.47, mlx-lm 0.32,
  /// lmdeploy 0.18.
  static func all(_ scheme: ModuleScheme, outputs: Int?, inputs: Int?) -> [ExpectedTensor] {
    let (n, k) = (outputs ?? 0, inputs ?? 0)
    let isKnown = outputs != nil && inputs != nil
    func tensor(
      _ suffix: String, _ dtypes: Set<DType>, _ shapes: [[Int]], required: Bool = true
    ) -> ExpectedTensor {
      ExpectedTensor(
        suffix: suffix, dtypes: dtypes, shapes: isKnown ? shapes : [], isRequired: required)
    }
    let scalar = [[1], []]
    let scales = scheme.scaleShapes(outputs: n, inputs: k)
    var tensors: [ExpectedTensor] = []
    switch scheme.layout {
    case .intQuantized:
      tensors = [tensor("weight", [.i8], [[n, k]]), tensor("weight_scale", floats, scales)]
    case .floatQuantized:
      tensors = [tensor("weight", [.f8E4M3], [[n, k]]), tensor("weight_scale", floats, scales)]
    case .naive:
      tensors = [
        tensor("weight", [.i8, .f8E4M3, .f16, .bf16, .f32], [[n, k]]),
        tensor("weight_scale", floats, scales),
      ]
    case .packQuantized:
      tensors = [
        tensor("weight_packed", [.i32], [[n, words(k, scheme.bits)]]),
        tensor("weight_scale", floats, scales),
        tensor("weight_shape", [.i64, .i32], [[2]]),
        tensor("weight_g_idx", [.i32], [[k]], required: false),
      ]
    case .mxfp4:
      tensors = [
        tensor("weight_packed", [.u8], [[n, k / 2]]),
        tensor("weight_scale", [.u8, .f8E8M0], scales),
      ]
    case .mxfp8:
      tensors = [
        tensor("weight", [.f8E4M3], [[n, k]]), tensor("weight_scale", [.u8, .f8E8M0], scales),
      ]
    case .nvfp4:
      tensors = [
        tensor("weight_packed", [.u8], [[n, k / 2]]), tensor("weight_scale", [.f8E4M3], scales),
        tensor("weight_global_scale", [.f32], scalar),
      ]
      if scheme.inputs == .local { tensors.append(tensor("input_global_scale", [.f32], scalar)) }
    case .awq:
      tensors = [
        tensor("qweight", [.i32], [[k, n / 8]]),
        tensor("scales", [.f16, .bf16], [[groups(k, scheme.group), n]]),
      ]
    case .gptq:
      tensors = [
        tensor("qweight", [.i32], [[words(k, scheme.bits), n]]),
        tensor("qzeros", [.i32], [[groups(k, scheme.group), words(n, scheme.bits)]]),
        tensor("scales", floats, [[groups(k, scheme.group), n]]),
        tensor("g_idx", [.i32], [[k]], required: false),
      ]
    case .fp8:
      tensors = [
        tensor("weight", [.f8E4M3], [[n, k]]),
        tensor(scheme.group == -2 ? "weight_scale_inv" : "weight_scale", floats, scales),
      ]
    case .modeloptFP8:
      tensors = [
        tensor("weight", [.f8E4M3], [[n, k]]), tensor("weight_scale", [.f32], scalar),
        tensor("input_scale", [.f32], scalar),
      ]
    case .modeloptNVFP4:
      tensors = [
        tensor("weight", [.u8], [[n, k / 2]]), tensor("weight_scale", [.f8E4M3], scales),
        tensor("weight_scale_2", [.f32], scalar),
      ]
      if scheme.inputs == .local { tensors.append(tensor("input_scale", [.f32], scalar)) }
    case .mlx:
      let types: Set<DType> = scheme.isSymmetric ? [.u8] : floats
      tensors = [
        tensor("weight", [.u32], [[n, words(k, scheme.bits)]]), tensor("scales", types, scales),
      ]
      if !scheme.isSymmetric { tensors.append(tensor("biases", types, scales)) }
    case .smoothQuant:
      tensors = [
        tensor("weight", [.i8, .f8E4M3, .f8E5M2], [[n, k]]), tensor("scale", [.f32], [[n, 1]]),
      ]
    case .other: return []
    }
    if scheme.inputs == .staticTensor, ![.modeloptFP8, .modeloptNVFP4].contains(scheme.layout) {
      tensors.append(tensor("input_scale", floats, scalar))
      if !scheme.inputsAreSymmetric { tensors.append(tensor("input_zero_point", [.i8], scalar)) }
    }
    return tensors
  }

  /// The zero points of a scheme that has some.
  static func zeroPoint(
    _ scheme: ModuleScheme, outputs: Int?, inputs: Int?
  ) -> ExpectedTensor? {
    let (n, k) = (outputs ?? 0, inputs ?? 0)
    let columns = scheme.scaleShapes(outputs: n, inputs: k).first?.last ?? 1
    let isKnown = outputs != nil && inputs != nil
    switch scheme.layout {
    case .packQuantized:
      return ExpectedTensor(
        suffix: "weight_zero_point", dtypes: [.i32],
        shapes: isKnown ? [[words(n, scheme.bits), columns]] : [])
    case .intQuantized, .naive:
      return ExpectedTensor(
        suffix: "weight_zero_point", dtypes: [.i8],
        shapes: isKnown ? scheme.scaleShapes(outputs: n, inputs: k) : [])
    case .awq:
      return ExpectedTensor(
        suffix: "qzeros", dtypes: [.i32],
        shapes: isKnown ? [[groups(k, scheme.group), n / 8]] : [])
    default: return nil
    }
  }

  /// 32-bit words of `count` values.
  static func words(_ count: Int, _ bits: Int) -> Int {
    let (product, overflow) = count.multipliedReportingOverflow(by: max(1, min(bits, 64)))
    return overflow ? Int.max : product / 32 + (product % 32 == 0 ? 0 : 1)
  }

  /// Groups of `count` inputs, the last of which may be smaller.
  static func groups(_ count: Int, _ size: Int) -> Int {
    size > 0 ? count / size + (count % size == 0 ? 0 : 1) : 1
  }
}

extension ModuleScheme {
  /// Shapes that its scales may have.
  func scaleShapes(outputs n: Int, inputs k: Int) -> [[Int]] {
    switch group {
    case 0: return [[1], []]
    case -1: return layout == .packQuantized || layout == .awq ? [[n, 1]] : [[n, 1], [n]]
    case -2:
      let (rows, columns) = (max(1, block.first ?? 128), max(1, block.last ?? 128))
      return [[ExpectedTensor.groups(n, rows), ExpectedTensor.groups(k, columns)]]
    default: return [[n, ExpectedTensor.groups(k, group)]]
    }
  }
}

extension LinearFact {
  /// Sets sizes that the family does not give from the tensors.
  mutating func inferSizes() {
    guard outputs == nil || inputs == nil, let module else { return }
    if let weight = module["weight"], weight.shape.count == 2 {
      outputs = weight.rows
      switch scheme?.layout {
      case .modeloptNVFP4: inputs = weight.columns.multipliedReportingOverflow(by: 2).partialValue
      case .mlx: inputs = values(weight.columns)
      default: inputs = weight.columns
      }
      return
    }
    guard let scheme else { return }
    switch scheme.layout {
    case .awq:
      (outputs, inputs) = (module["scales"]?.columns, module["qweight"]?.rows)
    case .gptq:
      outputs = module["qweight"]?.columns
      inputs = module["g_idx"]?.rows ?? module["qweight"].flatMap { values($0.rows) }
    case .packQuantized:
      outputs = module["weight_packed"]?.rows
      inputs = module["weight_packed"].flatMap { values($0.columns) }
    case .mxfp4, .nvfp4:
      outputs = module["weight_packed"]?.rows
      inputs = module["weight_packed"]?.columns.multipliedReportingOverflow(by: 2).partialValue
    default: break
    }
  }

  /// Values that some words hold.
  private func values(_ words: Int) -> Int? {
    guard let bits = scheme?.bits, bits > 0, words < 1 << 40 else { return nil }
    return words * 32 / bits
  }
}
