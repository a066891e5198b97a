import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a compressed-tensors checkpoint as the weights of a decoder: the codes and scales that were
/// written are what runs.
public struct CompressedTensorsReader: WeightSource {
  private let checkpoint: Checkpoint
  private let groups: [Group]
  private let ignored: [String]

  private struct Group: Sendable {
    var targets: [String]
    var scheme: LinearScheme
  }

  /// - Throws: `ModelError` naming the part of the scheme that Nibble does not run.
  public init(_ checkpoint: Checkpoint) throws(ModelError) {
    self.checkpoint = checkpoint
    let config = checkpoint.config["quantization_config"] ?? .null
    ignored = config["ignore"]?.array?.compactMap(\.string) ?? []
    var groups: [Group] = []
    if let cache = config["kv_cache_scheme"], !cache.isNull {
      throw .config(
        path: checkpoint.configPath, field: "quantization_config.kv_cache_scheme",
        reason: "asks for a quantized cache, which Nibble does not run")
    }
    for (name, value) in config["config_groups"]?.object ?? JSONObject() {
      let fields = ArgumentFields(path: checkpoint.configPath, group: name)
      groups.append(
        Group(
          targets: value["targets"]?.array?.compactMap(\.string) ?? [],
          scheme: LinearScheme(
            weights: try fields.weights(value["weights"]),
            activations: try fields.activations(
              value["input_activations"], output: value["output_activations"]))))
    }
    guard !groups.isEmpty else {
      throw .config(
        path: checkpoint.configPath, field: "quantization_config.config_groups",
        reason: "is missing or empty")
    }
    self.groups = groups
  }

  public func vector(_ name: String, count: Int) throws(ModelError) -> [Float]? {
    try checkpoint.vector(name, count: count)
  }

  public func weight(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    let isPacked = checkpoint.tensor(path + ".weight_packed") != nil
    guard isPacked || checkpoint.tensor(path + ".weight_scale") != nil else {
      return try checkpoint.weight(path, outputs: outputs, inputs: inputs)
    }
    guard let scheme = scheme(of: path) else {
      throw .config(
        path: checkpoint.configPath, field: "quantization_config",
        reason: "has no group for \(path), which is quantized")
    }
    let weights = scheme.weights
    let isFloat = weights.format == .e4m3
    guard weights.fits(outputs: outputs, inputs: inputs),
      inputs * weights.bits % 32 == 0 || weights.bits == 8
    else {
      throw .unsupported("\(path): \(inputs) inputs do not fit \(weights)")
    }
    guard isPacked ? !isFloat : weights.bits == 8 else {
      throw .unsupported(
        "\(path): \(weights) is \(isPacked ? "packed" : "not packed"), which Nibble does not read")
    }
    let groups = weights.scalesPerRow(inputs: inputs)
    let scaleShape = weights.granularity == .tensor ? [1] : [outputs, groups]
    let codes: Bytes
    if isPacked {
      let words = (inputs * weights.bits + 31) / 32
      let packed = try bytes(path + ".weight_packed", .i32, [outputs, words])
      codes = PackedCodes.unpack(
        weights.bits == 8 ? Self.trim(packed, outputs, words * 4, inputs) : packed,
        bits: weights.bits)
    } else {
      codes = try bytes(
        path + ".weight", isFloat ? .f8E4M3 : .i8, [outputs, inputs])
    }
    var zeros: [Int8] = []
    if weights.hasZeroPoints {
      let words = (outputs * weights.bits + 31) / 32
      zeros = PackedCodes.unpackZeroPoints(
        try bytes(path + ".weight_zero_point", .i32, [words, groups]), rows: outputs,
        groups: groups, bits: weights.bits)
    }
    return .quantized(
      QuantizedMatrix(
        scheme: weights, rows: outputs, columns: inputs, codes: codes,
        scales: try scales(path + ".weight_scale", scaleShape), zeroPoints: zeros),
      inputs: scheme.activations.map { InputRounding($0) })
  }

  /// Rows of bytes cut to `width`.
  private static func trim(_ bytes: Bytes, _ rows: Int, _ stride: Int, _ width: Int) -> Bytes {
    guard stride != width else { return bytes }
    let content = bytes.array
    return Bytes((0..<rows).flatMap { content[$0 * stride..<$0 * stride + width] })
  }

  private func bytes(
    _ name: String, _ dtype: DType, _ shape: [Int]
  ) throws(ModelError) -> Bytes {
    guard let tensor = checkpoint.tensor(name) else {
      throw .missingTensor(name, path: checkpoint.path)
    }
    guard tensor.shape == shape else {
      throw .tensorShape(name, found: tensor.shape, expected: shape)
    }
    guard tensor.dtype == dtype else {
      throw .tensorType(name, found: tensor.dtype.rawValue, expected: dtype.rawValue)
    }
    return try checkpoint.bytes(of: name)
  }

  private func scales(_ name: String, _ shape: [Int]) throws(ModelError) -> [Float] {
    guard let tensor = checkpoint.tensor(name) else {
      throw .missingTensor(name, path: checkpoint.path)
    }
    guard let format = tensor.dtype.floatFormat else {
      throw .tensorType(name, found: tensor.dtype.rawValue, expected: "F32, F16 or BF16")
    }
    let isScalar = shape == [1] && tensor.shape.isEmpty
    guard tensor.shape == shape || isScalar else {
      throw .tensorShape(name, found: tensor.shape, expected: shape)
    }
    let scales = format.decode(try checkpoint.bytes(of: name))
    if let index = scales.firstIndex(where: { !($0.isFinite && $0 > 0) }) {
      throw .unsupported("\(name): scale \(index) is \(scales[index]); scales are above zero")
    }
    return scales
  }

  /// The most specific group wins: an exact path, then an expression, then the class.
  private func scheme(of path: String) -> LinearScheme? {
    if ignored.contains(where: { Self.matches($0, path) }) { return nil }
    let exact = groups.first { $0.targets.contains(path) }
    let pattern = groups.first { group in
      group.targets.contains { $0.hasPrefix("re:") && Self.matches($0, path) }
    }
    return (exact ?? pattern ?? groups.first { $0.targets.contains("Linear") })?.scheme
  }

  private static func matches(_ target: String, _ path: String) -> Bool {
    guard target.hasPrefix("re:") else { return target == path }
    guard let expression = try? Regex(String(target.dropFirst(3))) else { return false }
    return (try? expression.prefixMatch(in: path)) != nil
  }
}

/// Reads the quantization arguments of one group.
private struct ArgumentFields {
  let path: String
  let group: String

  private func unsupported(_ what: String) -> ModelError {
    .config(
      path: path, field: "quantization_config.config_groups.\(group)",
      reason: "uses \(what), which Nibble does not run")
  }

  func weights(_ json: JSON?) throws(ModelError) -> WeightScheme {
    guard let json, json.object != nil else { throw unsupported("float weights") }
    let symmetric = try flag(json, "symmetric", default: true)
    guard try !flag(json, "dynamic", default: false) else { throw unsupported("dynamic weights") }
    let bits = json["num_bits"]?.int ?? 8
    let format: WeightScheme.Format
    switch (json["type"]?.string ?? "int", bits) {
    case ("int", 4), ("int", 8): format = .int(bits: bits, symmetric: symmetric)
    case ("float", 8): format = .e4m3
    case (let type, _): throw unsupported("\(bits)-bit \(type) weights")
    }
    let size = json["group_size"]?.int
    let inferred = size.map { $0 > 0 ? "group" : "channel" } ?? "tensor"
    switch json["strategy"]?.string ?? inferred {
    case "tensor": return WeightScheme(format: format, granularity: .tensor)
    case "channel": return WeightScheme(format: format, granularity: .channel)
    case "group":
      guard let size, size >= 2, size <= 1 << 20 else { throw unsupported("groups without a size") }
      return WeightScheme(format: format, granularity: .group(size))
    case let strategy: throw unsupported("weights by \(strategy)")
    }
  }

  func activations(_ json: JSON?, output: JSON?) throws(ModelError) -> ActivationScheme? {
    guard output?.isNull ?? true else { throw unsupported("quantized outputs") }
    guard let json, !json.isNull else { return nil }
    guard json["dynamic"]?.bool == true, json["strategy"]?.string ?? "token" == "token",
      try flag(json, "symmetric", default: true), json["num_bits"]?.int == 8
    else { throw unsupported("activations other than dynamic, symmetric, 8 bits a token") }
    switch json["type"]?.string ?? "int" {
    case "int": return .dynamicPerToken(.int8)
    case "float": return .dynamicPerToken(.e4m3)
    case let type: throw unsupported("\(type) activations")
    }
  }

  private func flag(
    _ json: JSON, _ name: String, default value: Bool
  ) throws(ModelError) -> Bool {
    guard let found = json[name], !found.isNull else { return value }
    guard let flag = found.bool else { throw unsupported("\(name) \(found.text())") }
    return flag
  }
}
