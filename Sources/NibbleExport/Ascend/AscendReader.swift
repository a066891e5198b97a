import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a checkpoint of msModelSlim, or the parts of a compressed one, as the weights of a decoder:
/// what runs are the codes, scales and integer biases that were written.
public struct AscendReader: WeightSource {
  let parts: [AscendPart]
  private let family: Family
  private let last = LastLayer()
  /// Decompresses; readers are asked for one tensor at a time.
  let compute = Compute(precision: .f32)
  /// Whether compressed codes stay compressed in memory.
  let keepsCompressed: Bool

  /// - Parameters:
  ///   - checkpoint: with config.json; its weights are those of the only part, or the first.
  ///   - folders: of the parts of a compressed model, in order; empty for others.
  ///   - keepsCompressed: whether compressed codes stay so in memory, and each product decompresses
  ///     them.
  public init(
    _ checkpoint: Checkpoint, _ family: Family, parts folders: [String] = [],
    keepsCompressed: Bool = false
  ) throws(ModelError) {
    self.family = family
    self.keepsCompressed = keepsCompressed
    var parts: [AscendPart] = []
    for folder in folders.isEmpty ? [checkpoint.path] : folders {
      guard let description = try AscendDescription(folder: folder) else {
        throw .notAModel(
          path: folder, reason: "there is no \(Ascend.descriptionStem).json beside the weights")
      }
      parts.append(
        AscendPart(
          checkpoint: folders.isEmpty
            ? checkpoint : try Checkpoint(path: checkpoint.path, weights: folder),
          description: description, path: folder))
    }
    self.parts = parts
  }

  public func vector(_ name: String, count: Int) throws(ModelError) -> [Float]? {
    if name.hasSuffix("norm.weight") { try checkNorm(name, count) }
    let path = String(name.dropLast(".bias".count))
    guard name.hasSuffix(".bias"), let role = role(of: path),
      parts[0].type(of: path).isStatic
    else { return try parts[0].checkpoint.vector(name, count: count) }
    let layer = try last.layer(path) { () throws(ModelError) in
      try AscendLayer(of: path, outputs: count, inputs: nil, in: self, role: role)
    }
    return layer.numbers.bias(rowSums: QuantizedMatrix.rowSums(layer.codes, rows: count))
  }

  public func weight(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    let first = parts[0]
    let type = first.type(of: path)
    guard type != .float, let role = role(of: path) else {
      return try first.checkpoint.weight(path, outputs: outputs, inputs: inputs)
    }
    guard type.isStatic else {
      guard parts.count == 1 else {
        throw .unsupported("\(path): \(type.rawValue) is in parts, which Nibble does not join")
      }
      return try first.plain(path, type, outputs: outputs, inputs: inputs)
    }
    let layer = try last.layer(path) { () throws(ModelError) in
      try AscendLayer(of: path, outputs: outputs, inputs: inputs, in: self, role: role)
    }
    guard layer.codes.count == outputs * inputs, layer.numbers.deqScale.count == outputs else {
      throw .unsupported("\(path): its codes are not [\(outputs), \(inputs)]")
    }
    return .quantized(
      QuantizedMatrix(
        scheme: AscendPart.channel, rows: outputs, columns: inputs, codes: layer.codes,
        scales: layer.numbers.weightScales),
      inputs: InputRounding(.staticAsymmetric, range: layer.numbers.inputs))
  }

  /// The tool's smoothing gives norms a bias, of zeros but where it shifts.
  private func checkNorm(_ name: String, _ count: Int) throws(ModelError) {
    let bias = String(name.dropLast("weight".count)) + "bias"
    let values = try parts[0].checkpoint.vector(bias, count: count) ?? []
    guard values.allSatisfy({ $0 == 0 }) else {
      throw .unsupported(
        "\(bias): shifts the norm, which Nibble does not run. Make the model without shifts.")
    }
  }

  private func role(of path: String) -> Role? {
    guard path.hasPrefix(family.blockPrefix) else { return nil }
    return family.linears.first { path.hasSuffix("." + $0.path) }?.role
  }

  /// Whether ranks of a tensor-parallel model share this layer's inputs out, and not its outputs.
  func isSplitByInputs(_ role: Role) -> Bool { Site(of: role).addsUp }
}

extension Site {
  /// Whether the results of ranks are added: what reads it has the inputs of each rank.
  var addsUp: Bool { self == .output || self == .down }
}

extension AscendType {
  /// Whether its inputs have one fixed range.
  var isStatic: Bool {
    switch self {
    case .w8a8, .w8a8s, .w8a8sc: true
    case .float, .w8a8Dynamic, .w8a16, .c8: false
    }
  }
}
