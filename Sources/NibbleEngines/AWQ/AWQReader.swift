import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a checkpoint in the format ``AWQ`` as the weights of a decoder, which runs on the stored
/// codes, zero points and scales.
public struct AWQReader: EngineReader, CheckpointSource {
  public let checkpoint: Checkpoint
  /// Inputs per scale; nil for one scale per row.
  private let group: Int?

  package static let method = "awq"

  package static func storedNames(_ decoder: DecoderShape) -> StoredNames {
    StoredNames(linear: ["qweight", "qzeros", "scales"])
  }

  package static func open(
    _ checkpoint: Checkpoint, _ decoder: DecoderShape, _ settings: ReaderSettings
  ) throws(ModelError) -> AWQReader { try AWQReader(checkpoint) }

  /// - Throws: `ModelError`, which names a setting that Nibble does not support.
  public init(_ checkpoint: Checkpoint) throws(ModelError) {
    self.checkpoint = checkpoint
    let config = checkpoint.config["quantization_config"] ?? .null
    func refuse(_ field: String, _ reason: String) -> ModelError {
      .config(
        path: checkpoint.configPath, field: "quantization_config.\(field)", reason: reason)
    }
    let version = config["version"]?.string ?? "gemm"
    guard version.lowercased() == "gemm" else {
      throw refuse("version", "is \"\(version)\"; Nibble runs gemm")
    }
    guard (config["bits"] ?? config["w_bit"])?.int == 4 else {
      throw refuse("bits", "is not 4, which is what Nibble runs")
    }
    guard config["zero_point"]?.bool == true else {
      throw refuse("zero_point", "is not true; Nibble runs codes with zero points")
    }
    switch (config["group_size"] ?? config["q_group_size"])?.int {
    case -1: group = nil
    case let size? where (2...1 << 20).contains(size): group = size
    default: throw refuse("group_size", "is neither -1 nor a number of inputs")
    }
  }

  public func weight(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    guard checkpoint.tensor(path + ".qweight") != nil else {
      return try checkpoint.weight(path, outputs: outputs, inputs: inputs)
    }
    let scheme = WeightScheme(
      format: .int(bits: 4, symmetric: false), granularity: group.map { .group($0) } ?? .channel)
    guard scheme.fits(outputs: outputs, inputs: inputs),
      outputs.isMultiple(of: InterleavedCodes.perWord)
    else {
      throw .unsupported(
        "\(path): [\(outputs), \(inputs)] does not fit \(scheme) of the format awq")
    }
    let groups = scheme.scalesPerRow(inputs: inputs)
    let words = outputs / InterleavedCodes.perWord
    let codes = try checkpoint.bytes(path + ".qweight", .i32, [inputs, words])
    let zeros = try checkpoint.bytes(path + ".qzeros", .i32, [groups, words])
    let scales = try checkpoint.scales(path + ".scales", [groups, outputs])
    return .quantized(
      QuantizedMatrix(
        scheme: scheme, rows: outputs, columns: inputs,
        codes: InterleavedCodes.unpack(codes, outputs: outputs, inputs: inputs),
        scales: transposed(scales, rows: groups, columns: outputs),
        zeroPoints: InterleavedCodes.unpackZeroPoints(zeros, outputs: outputs, groups: groups)),
      inputs: nil)
  }
}
