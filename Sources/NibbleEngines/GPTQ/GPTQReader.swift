import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a checkpoint in the format ``GPTQ``, of version 1 or 2, as the weights of a decoder, which
/// runs on the stored codes, zero points and scales.
public struct GPTQReader: EngineReader, CheckpointSource {
  package static let method = "gptq"
  static let secondVersion = "gptq_v2"

  public let checkpoint: Checkpoint
  private let bits: Int
  private let isSymmetric: Bool
  /// Inputs per scale; nil for one scale per row.
  private let group: Int?
  /// Whether the config says that stored zero points are the true ones.
  private let saysSecondVersion: Bool

  package static func storedNames(_ decoder: DecoderShape) -> StoredNames {
    StoredNames(linear: ["qweight", "qzeros", "scales", "g_idx"])
  }

  package static func open(
    _ checkpoint: Checkpoint, _ decoder: DecoderShape, _ settings: ReaderSettings
  ) throws(ModelError) -> GPTQReader { try GPTQReader(checkpoint) }

  /// - Throws: `ModelError`, which names a setting that Nibble does not support.
  public init(_ checkpoint: Checkpoint) throws(ModelError) {
    self.checkpoint = checkpoint
    let config = checkpoint.config["quantization_config"] ?? .null
    func refuse(_ field: String, _ reason: String) -> ModelError {
      .config(
        path: checkpoint.configPath, field: "quantization_config.\(field)", reason: reason)
    }
    let format = (config["checkpoint_format"] ?? config["format"])?.string ?? Self.method
    guard [Self.method, Self.secondVersion].contains(format) else {
      throw refuse(
        "checkpoint_format",
        "is \"\(format)\"; Nibble runs \(Self.method) and \(Self.secondVersion)")
    }
    saysSecondVersion = format == Self.secondVersion
    guard let bits = (config["bits"] ?? config["w_bit"] ?? config["wbits"])?.int,
      [2, 3, 4, 8].contains(bits)
    else { throw refuse("bits", "is not 2, 3, 4 or 8") }
    self.bits = bits
    isSymmetric = config["sym"]?.bool ?? true
    switch (config["group_size"] ?? config["q_group_size"])?.int {
    case -1: group = nil
    case let size? where (2...1 << 20).contains(size): group = size
    default: throw refuse("group_size", "is neither -1 nor a number of inputs")
    }
    for (pattern, value) in config["dynamic"]?.object ?? JSONObject() where !pattern.hasPrefix("-:")
    {
      for key in ["bits", "group_size", "sym"] where value[key] != nil && value[key] != config[key]
      {
        throw refuse("dynamic", "gives \(pattern) other \(key), which Nibble does not read")
      }
    }
  }

  public func weight(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    guard checkpoint.tensor(path + ".qweight") != nil else {
      return try checkpoint.weight(path, outputs: outputs, inputs: inputs)
    }
    let span = group ?? inputs
    guard (outputs * bits).isMultiple(of: 32), (inputs * bits).isMultiple(of: 32),
      inputs.isMultiple(of: span)
    else {
      throw .unsupported(
        "\(path): [\(outputs), \(inputs)] does not fit words of \(bits)-bit codes in groups of \(span)"
      )
    }
    let groups = inputs / span
    let words = try checkpoint.bytes(
      path + ".qweight", .i32, [inputs * bits / 32, outputs])
    let zeros = try zeroPoints(path, groups: groups, outputs: outputs)
    let scales = try checkpoint.scales(path + ".scales", [groups, outputs])
    let order = try inputOrder(path, inputs: inputs, span: span)
    let scheme = WeightScheme(
      format: .int(bits: bits, symmetric: zeros.isEmpty),
      granularity: group.map { .group($0) } ?? .channel)
    var packed = WordMatrix(words.array, columns: outputs).transposed
    words.release()
    if !order.isEmpty {
      packed = DenseCodes.gather(packed, rows: outputs, columns: inputs, bits: bits, order)
    }
    return .quantized(
      QuantizedMatrix(
        scheme: scheme, rows: outputs, columns: inputs,
        codes: DenseCodes.unpack(Bytes(packed), count: outputs * inputs, bits: bits),
        scales: transposed(scales, rows: groups, columns: outputs), zeroPoints: zeros,
        inputOrder: order),
      inputs: nil)
  }

  /// The zero points `[n, g]`, less half the range of the codes; empty when all are in its middle.
  ///
  /// Labels of symmetric checkpoints are wrong at times, and their zero points tell the version: all
  /// are `2^(bits-1)`, or in version 1 one less.
  private func zeroPoints(
    _ path: String, groups: Int, outputs: Int
  ) throws(ModelError) -> [Int8] {
    let name = path + ".qzeros"
    let bytes = try checkpoint.bytes(name, .i32, [groups, outputs * bits / 32])
    let half = 1 << (bits - 1)
    var stored = [UInt8](repeating: 0, count: groups * outputs)
    DenseCodes.unpack(bytes.array, count: stored.count, bits: bits) { stored[$0] = $1 }
    let isMiddle = stored.allSatisfy { Int($0) == half }
    let isBelow = stored.allSatisfy { Int($0) == half - 1 }
    if isSymmetric {
      guard isMiddle || isBelow else {
        throw .unsupported(
          "\(name): holds zero points beside \(half) and \(half - 1), but \"sym\" is true in "
            + checkpoint.configPath)
      }
      return []
    }
    if saysSecondVersion ? isMiddle : isBelow { return [] }
    let shift = (saysSecondVersion ? 0 : 1) - half
    guard shift + Int(stored.max() ?? 0) <= Int(Int8.max) else {
      throw .unsupported("\(name): a zero point lies outside the codes")
    }
    var zeros = [Int8](repeating: 0, count: stored.count)
    for group in 0..<groups {
      for output in 0..<outputs {
        zeros[output * groups + group] = Int8(Int(stored[group * outputs + output]) + shift)
      }
    }
    return zeros
  }

  /// The inputs group by group, each in ascending order; empty when they lie so (without `desc_act`).
  private func inputOrder(
    _ path: String, inputs: Int, span: Int
  ) throws(ModelError) -> [Int32] {
    let name = path + ".g_idx"
    guard checkpoint.tensor(name) != nil else { return [] }
    let bytes = try checkpoint.bytes(name, .i32, [inputs]).array
    var members = [[Int32]](repeating: [], count: inputs / span)
    for input in 0..<inputs {
      let group = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[4 * input + $1]) << (8 * $1) }
      guard group < members.count, members[Int(group)].count < span else {
        throw .unsupported(
          "\(name): input \(input) is in group \(Int32(bitPattern: group)), which is none of "
            + "\(members.count) with \(span) inputs each")
      }
      members[Int(group)].append(Int32(input))
    }
    let order = members.flatMap(\.self)
    return order == Array(0..<Int32(inputs)) ? [] : order
  }
}
