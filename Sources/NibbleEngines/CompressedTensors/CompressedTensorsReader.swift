import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a compressed-tensors checkpoint as the weights of a decoder, which runs on the stored
/// codes and scales.
public struct CompressedTensorsReader: EngineReader, CheckpointSource {
  public let checkpoint: Checkpoint
  private let groups: [Group]
  private let ignored: ModuleTargets

  private struct Group: Sendable {
    var targets: ModuleTargets
    var scheme: LinearScheme
  }

  package static let method = "compressed-tensors"

  package static func storedNames(_ decoder: DecoderShape) -> StoredNames {
    StoredNames(
      linear: [
        "weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_global_scale",
        "input_scale", "input_zero_point",
      ], attention: ["k_scale", "v_scale"])
  }

  package static func open(
    _ checkpoint: Checkpoint, _ decoder: DecoderShape, _ settings: ReaderSettings
  ) throws(ModelError) -> CompressedTensorsReader { try CompressedTensorsReader(checkpoint) }

  /// - Throws: `ModelError`, which names a part of the scheme that Nibble does not support.
  public init(_ checkpoint: Checkpoint) throws(ModelError) {
    self.checkpoint = checkpoint
    let config = checkpoint.config["quantization_config"] ?? .null
    let path = checkpoint.configPath
    var budget = ModuleTargets.costLimit
    ignored = try ModuleTargets(
      config["ignore"], path: path, field: "quantization_config.ignore", budget: &budget)
    var groups: [Group] = []
    for (name, value) in config["config_groups"]?.object ?? JSONObject() {
      let fields = ArgumentFields(path: checkpoint.configPath, group: name)
      groups.append(
        Group(
          targets: try ModuleTargets(
            value["targets"], path: path,
            field: "quantization_config.config_groups.\(name).targets", budget: &budget),
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

  /// The scales of each block's KV cache; nil when the checkpoint leaves it float.
  public func cacheScales(_ decoder: DecoderShape) throws(ModelError) -> [KeyValueScales]? {
    let scheme = checkpoint.config["quantization_config"]?["kv_cache_scheme"] ?? .null
    guard !scheme.isNull else { return nil }
    guard let format = CompressedTensors.cacheFormat(scheme) else {
      throw .config(
        path: checkpoint.configPath, field: "quantization_config.kv_cache_scheme",
        reason: "asks for a cache that Nibble does not know: \(scheme.text())")
    }
    return try CacheTensors.read(format, of: checkpoint, decoder)
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
    guard weights.fits(outputs: outputs, inputs: inputs),
      !isPacked || inputs * weights.bits % 32 == 0 || weights.bits == 8
    else {
      throw .unsupported("\(path): \(inputs) inputs do not fit \(weights)")
    }
    if weights.format.scales != .float {
      return .quantized(
        try packedFloats(path, weights, outputs, inputs),
        inputs: try inputRounding(path, scheme.activations))
    }
    guard !isPacked || weights.format.isInteger else {
      throw .unsupported("\(path): \(weights) is packed, which Nibble does not read")
    }
    let scaleShape = CompressedTensors.scaleShape(weights, outputs: outputs, inputs: inputs)
    let matrix = QuantizedMatrix(
      scheme: weights, rows: outputs, columns: inputs,
      codes: isPacked
        ? try packedCodes(path, weights.bits, outputs, inputs)
        : try plainCodes(path, weights, outputs, inputs),
      scales: try checkpoint.scales(path + ".weight_scale", scaleShape),
      zeroPoints: try zeroPoints(path, weights, scaleShape, isPacked: isPacked))
    return .quantized(matrix, inputs: try inputRounding(path, scheme.activations))
  }

  private func packedCodes(
    _ path: String, _ bits: Int, _ outputs: Int, _ inputs: Int
  ) throws(ModelError) -> Bytes {
    let words = (inputs * bits + 31) / 32
    let packed = try checkpoint.bytes(path + ".weight_packed", .i32, [outputs, words])
    guard bits == 8 else { return PackedCodes.unpack(packed, bits: bits) }
    let codes = PackedCodes.unpack(
      Self.trim(packed, outputs, words * 4, inputs), bits: bits)
    // The codes have been copied.
    packed.release()
    return codes
  }

  private func plainCodes(
    _ path: String, _ weights: WeightScheme, _ outputs: Int, _ inputs: Int
  ) throws(ModelError) -> Bytes {
    let codes = try checkpoint.bytes(
      path + ".weight", weights.format.isInteger ? .i8 : .f8E4M3, [outputs, inputs])
    guard weights.bits == 4 else { return codes }
    guard let narrow = PackedCodes.narrow(codes) else {
      throw .unsupported("\(path).weight: holds codes outside -8...7, which are not 4 bits")
    }
    return narrow
  }

  private func zeroPoints(
    _ path: String, _ weights: WeightScheme, _ scaleShape: [Int], isPacked: Bool
  ) throws(ModelError) -> [Int8] {
    guard weights.hasZeroPoints else { return [] }
    let name = path + ".weight_zero_point"
    guard isPacked else {
      let zeros = try checkpoint.bytes(name, .i8, scaleShape).array.map { Int8(bitPattern: $0) }
      let half = 1 << (weights.bits - 1)
      guard zeros.allSatisfy({ (-half..<half).contains(Int($0)) }) else {
        throw .unsupported("\(name): holds codes of more than \(weights.bits) bits")
      }
      return zeros
    }
    let (rows, groups) = (scaleShape[0], scaleShape[1])
    let words = (rows * weights.bits + 31) / 32
    return PackedCodes.unpackZeroPoints(
      try checkpoint.bytes(name, .i32, [words, groups]), rows: rows, groups: groups,
      bits: weights.bits)
  }

  private func inputRounding(
    _ path: String, _ scheme: ActivationScheme?
  ) throws(ModelError) -> InputRounding? {
    guard let scheme else { return nil }
    guard scheme.isStatic else { return InputRounding(scheme) }
    let scale = try checkpoint.scales(path + ".input_scale", [1])[0]
    guard scheme == .staticAsymmetric else {
      return InputRounding(scheme, range: InputRange(scale: scale))
    }
    let zero = Int8(bitPattern: try checkpoint.bytes(path + ".input_zero_point", .i8, [1]).array[0])
    return InputRounding(scheme, range: InputRange(scale: scale, zero: Int32(zero)))
  }

  /// Cuts rows of `stride` bytes to `width`.
  private static func trim(_ bytes: Bytes, _ rows: Int, _ stride: Int, _ width: Int) -> Bytes {
    guard stride != width else { return bytes }
    let content = bytes.array
    return Bytes((0..<rows).flatMap { content[$0 * stride..<$0 * stride + width] })
  }

  /// The most specific group wins: an exact path, then an expression, then the class.
  private func scheme(of path: String) -> LinearScheme? {
    if ignored.names.contains(path) || ignored.matches(path) { return nil }
    let group =
      groups.first { $0.targets.names.contains(path) }
      ?? groups.first { $0.targets.matches(path) }
      ?? groups.first { $0.targets.names.contains("Linear") }
    return group?.scheme
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
    let strategy = json["strategy"]?.string ?? inferredStrategy(json)
    let format: WeightScheme.Format
    switch (json["type"]?.string ?? "int", bits) {
    case ("int", 4), ("int", 8): format = .int(bits: bits, symmetric: symmetric)
    case ("float", 8): format = .e4m3
    case ("float", 4):
      format = strategy == "tensor_group" ? .nvfp4 : .mxfp4
      guard let group = format.group, json["group_size"]?.int == group,
        ["group", "tensor_group"].contains(strategy), symmetric
      else { throw unsupported("4-bit float weights that are neither MXFP4 nor NVFP4") }
      return WeightScheme(format: format, granularity: .group(group))
    case (let type, _): throw unsupported("\(bits)-bit \(type) weights")
    }
    switch strategy {
    case "tensor": return WeightScheme(format: format, granularity: .tensor)
    case "channel": return WeightScheme(format: format, granularity: .channel)
    case "group":
      let size = try self.size(json["group_size"], "groups", atLeast: 2)
      return WeightScheme(format: format, granularity: .group(size))
    case "block":
      let sizes = json["block_structure"]?.array ?? []
      guard sizes.count == 2 else { throw unsupported("blocks without a structure") }
      return WeightScheme(
        format: format,
        granularity: .block(
          rows: try size(sizes[0], "blocks"), columns: try size(sizes[1], "blocks")))
    default: throw unsupported("weights by \(strategy)")
    }
  }

  func activations(_ json: JSON?, output: JSON?) throws(ModelError) -> ActivationScheme? {
    guard output?.isNull ?? true else { throw unsupported("quantized outputs") }
    guard let json, !json.isNull else { return nil }
    let format: ActivationScheme.Format
    switch (json["type"]?.string ?? "int", json["num_bits"]?.int ?? 8) {
    case ("int", 8): format = .int8
    case ("float", 8): format = .e4m3
    case (let type, let bits): throw unsupported("\(bits)-bit \(type) activations")
    }
    let strategy = json["strategy"]?.string ?? inferredStrategy(json)
    let isSymmetric = try flag(json, "symmetric", default: true)
    switch (strategy, try flag(json, "dynamic", default: false), isSymmetric) {
    case ("token", true, true): return .dynamicPerToken(format)
    case ("tensor", true, true): return .dynamicPerTensor(format)
    case ("tensor", false, true): return .staticPerTensor(format)
    case ("tensor", false, false) where format == .int8: return .staticAsymmetric
    case ("group", true, true) where format == .e4m3:
      return .dynamicPerGroup(.e4m3, try size(json["group_size"], "groups"))
    case (_, let isDynamic, _):
      throw unsupported(
        "\(isDynamic ? "dynamic" : "static")\(isSymmetric ? "" : " asymmetric") \(format) activations "
          + "by \(strategy)")
    }
  }

  private func inferredStrategy(_ json: JSON) -> String {
    json["group_size"]?.int.map { $0 > 0 ? "group" : "channel" } ?? "tensor"
  }

  private func size(
    _ json: JSON?, _ what: String, atLeast least: Int = 1
  ) throws(ModelError) -> Int {
    guard let size = json?.int, (least...1 << 20).contains(size) else {
      throw unsupported("\(what) without a size")
    }
    return size
  }

  private func flag(
    _ json: JSON, _ name: String, default value: Bool
  ) throws(ModelError) -> Bool {
    guard let found = json[name], !found.isNull else { return value }
    guard let flag = found.bool else { throw unsupported("\(name) \(found.text())") }
    return flag
  }
}
