package import NibbleTensor

/// A parameter of a block that a gradient is computed for.
package enum BlockParameter: Hashable, Sendable {
  case weight(LinearID)
  /// The scales of a weight whose codes are fixed. Instead of the weight.
  case scales(LinearID)
  case bias(LinearID)
  /// The multiplier of a norm, `offset + w`.
  case norm(String)
  case normBias(String)

  /// Its tensor below the block.
  package var name: String {
    switch self {
    case .weight(let id): "\(id).weight"
    case .scales(let id): "\(id).scales"
    case .bias(let id): "\(id).bias"
    case .norm(let path): "\(path).weight"
    case .normBias(let path): "\(path).bias"
    }
  }
}

extension Block {
  /// A parameter as a matrix: `[n, k]` for weights, one row for vectors and scales. Nil if the block has none.
  package func value(of parameter: BlockParameter, on compute: Compute) -> FloatRows? {
    func row(_ values: [Float]?) -> FloatRows? {
      values.map { FloatRows($0, columns: $0.count) }
    }
    return switch parameter {
    case .weight(let id): linears[id].map { FloatRows($0.weight, on: compute) }
    case .scales(let id): row(linears[id]?.weight.codes?.scales)
    case .bias(let id): row(linears[id]?.bias)
    case .norm(let path): row(norms[path]?.weight)
    case .normBias(let path): row(norms[path]?.bias)
    }
  }

  /// Replaces a parameter that the block has.
  package mutating func replace(_ parameter: BlockParameter, by value: FloatRows) {
    switch parameter {
    case .weight(let id): linears[id]?.weight = .float(value.matrix)
    case .scales(let id):
      guard case .quantized(let matrix, let inputs)? = linears[id]?.weight else { return }
      linears[id]?.weight = .quantized(matrix.with(scales: value.values), inputs: inputs)
    case .bias(let id): linears[id]?.bias = value.values
    case .norm(let path): norms[path]?.weight = value.values
    case .normBias(let path): norms[path]?.bias = value.values
    }
  }

  /// Weights, biases and norms, in the order in which they run. Without the norms of heads, and
  /// without linears that stay float.
  package var learnable: [BlockParameter] {
    let ofLinears = shape.linears.filter { !$0.staysFloat && linears[$0.id] != nil }.flatMap {
      linears[$0.id]?.bias == nil
        ? [BlockParameter.weight($0.id)] : [.weight($0.id), .bias($0.id)]
    }
    let ofNorms = shape.norms.compactMap { norms[$0.path] }.filter(\.shape.hasWeight).flatMap {
      $0.bias == nil
        ? [BlockParameter.norm($0.shape.path)]
        : [.norm($0.shape.path), .normBias($0.shape.path)]
    }
    return ofLinears + ofNorms
  }
}

extension Weight {
  /// The codes and scales of a quantized weight.
  package var codes: QuantizedMatrix? {
    if case .quantized(let matrix, _) = self { matrix } else { nil }
  }

  /// How a quantized weight rounds its inputs.
  package var inputRounding: InputRounding? {
    if case .quantized(_, let inputs) = self { inputs } else { nil }
  }
}
