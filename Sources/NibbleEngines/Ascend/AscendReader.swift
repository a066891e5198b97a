import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a checkpoint of msModelSlim, or the parts of a compressed one, as the weights of a
/// decoder, which runs on the stored codes, scales and integer biases.
public struct AscendReader: EngineReader {
  let parts: [AscendPart]
  let config: DecoderShape
  private let split: AscendSplit
  private let last = LastLayer()
  /// Runs decompression; readers are asked for one tensor at a time.
  let compute: Compute
  /// Whether compressed codes stay compressed in memory.
  let keepsCompressed: Bool

  /// - Parameters:
  ///   - checkpoint: with config.json, and the weights of the only part or of the first.
  ///   - folders: of the parts of a compressed model, in order; empty for other models.
  ///   - keepsCompressed: whether codes stay compressed in memory and are decompressed in each
  ///     product.
  ///   - compute: for decompression; nil uses all processors.
  public init(
    _ checkpoint: Checkpoint, _ config: DecoderShape, parts folders: [String] = [],
    keepsCompressed: Bool = false, on compute: Compute? = nil
  ) throws(ModelError) {
    try config.requireAscend(checkpoint.path)
    self.config = config
    self.compute = compute ?? Compute(precision: .f32)
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
    split = try AscendSplit(config, ranks: parts.count)
  }

  package static let method = "ascend"

  package static func storedNames(_ decoder: DecoderShape) -> StoredNames {
    Ascend.storedNames(of: decoder)
  }

  package static func open(
    _ checkpoint: Checkpoint, _ decoder: DecoderShape, _ settings: ReaderSettings
  ) throws(ModelError) -> AscendReader {
    try AscendReader(
      checkpoint, decoder, parts: AscendParts.folders(of: checkpoint.path),
      keepsCompressed: settings.keepsCompressed, on: settings.compute)
  }

  public func vector(_ name: String, count: Int) throws(ModelError) -> [Float]? {
    let path = String(name.dropLast(".bias".count))
    guard name.hasSuffix(".bias"), let (role, module) = place(of: path),
      parts[0].type(of: module.path).isStatic
    else { return try parts[0].checkpoint.vector(name, count: count) }
    let layer = try layer(role, in: module)
    return layer.numbers.bias(rowSums: QuantizedMatrix.rowSums(layer.codes, rows: count))
  }

  public func weight(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    let first = parts[0]
    guard let (role, module) = place(of: path), first.type(of: module.path) != .float else {
      return try first.checkpoint.weight(path, outputs: outputs, inputs: inputs)
    }
    let type = first.type(of: module.path)
    guard type.isStatic else {
      guard parts.count == 1 else {
        throw .unsupported("\(path): \(type.rawValue) is in parts, which Nibble does not join")
      }
      return try first.plain(path, type, outputs: outputs, inputs: inputs)
    }
    let layer = try layer(role, in: module)
    guard layer.codes.count == outputs * inputs, layer.numbers.deqScale.count == outputs else {
      throw .unsupported("\(path): its codes are not [\(outputs), \(inputs)]")
    }
    return .quantized(
      QuantizedMatrix(
        scheme: AscendPart.channel, rows: outputs, columns: inputs, codes: layer.codes,
        scales: layer.numbers.weightScales),
      inputs: InputRounding(.staticAsymmetric, range: layer.numbers.inputs))
  }

  /// The tool's smoothing adds a bias to norms; it is zero unless it shifts.
  public func norm(_ shape: NormShape, at path: String) throws(ModelError) -> Norm {
    let checkpoint = parts[0].checkpoint
    // For fused modules the smoothed norm has its own name.
    let path = checkpoint.tensor(path + ".anti.weight") == nil ? path : path + ".anti"
    guard let weight = try checkpoint.vector(path + ".weight", count: shape.width) else {
      throw .missingTensor(path + ".weight", path: parts[0].path)
    }
    let bias = try checkpoint.vector(path + ".bias", count: shape.width)
    return Norm(shape, weight: weight, bias: bias?.contains { $0 != 0 } == true ? bias : nil)
  }

  /// A layer's role, and the module that holds it; nil outside the blocks.
  private func place(of path: String) -> (role: Role, module: AscendModule)? {
    let place = config.place(of: path)
    guard let block = place.block, block < config.blocks.count,
      let role = config.blocks[block].linear(LinearID(rawValue: place.name))?.role,
      let module = parts[0].modules(block: block, of: config).first(where: {
        $0.roles.contains(role)
      })
    else { return nil }
    return (role, module)
  }

  /// A layer with static input ranges.
  private func layer(_ role: Role, in module: AscendModule) throws(ModelError) -> AscendLayer {
    let all = try last.layer(module.path) { () throws(ModelError) in
      try AscendLayer(of: module, split, in: self)
    }
    return module.isFused ? try all.rows(split.rows(of: role, in: module), in: self) : all
  }
}

extension Role {
  /// Whether the results of ranks are summed, because each rank has some of the inputs.
  var addsUp: Bool { self == .output || self == .down }
}

extension AscendType {
  /// Whether its input range is static.
  var isStatic: Bool {
    switch self {
    case .w8a8, .w8a8s, .w8a8sc: true
    case .float, .w8a8Dynamic, .w8a16, .c8: false
    }
  }
}
