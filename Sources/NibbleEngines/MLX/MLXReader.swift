import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a checkpoint in the format ``MLX`` as the weights of a decoder, which runs on the stored codes,
/// scales and offsets.
///
/// A layer is quantized when it has `scales`; bits and groups follow from the shapes, as in mlx-lm 0.32.
public struct MLXReader: EngineReader, CheckpointSource {
  package static let method = Checkpoint.mlxMethod

  public let checkpoint: Checkpoint
  /// Mode of each path that the config lists, and of the others.
  private let modes: [String: String]
  private let mode: String

  package static func storedNames(_ decoder: DecoderShape) -> StoredNames {
    StoredNames(linear: ["scales", "biases"], embedding: ["scales", "biases"])
  }

  package static func open(
    _ checkpoint: Checkpoint, _ decoder: DecoderShape, _ settings: ReaderSettings
  ) throws(ModelError) -> MLXReader { MLXReader(checkpoint) }

  public init(_ checkpoint: Checkpoint) {
    self.checkpoint = checkpoint
    let config = checkpoint.config["quantization"] ?? .null
    mode = config["mode"]?.string ?? MLX.affine
    var modes: [String: String] = [:]
    for (path, layer) in config.object ?? JSONObject() {
      if let own = layer["mode"]?.string { modes[path] = own }
    }
    self.modes = modes
  }

  public func weight(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    guard let scales = checkpoint.tensor(path + ".scales"),
      let weight = checkpoint.tensor(path + ".weight")
    else { return try checkpoint.weight(path, outputs: outputs, inputs: inputs) }
    guard let words = weight.shape.last, let groups = scales.shape.last,
      words > 0, words <= inputs, (words * 32).isMultiple(of: inputs), groups > 0,
      inputs.isMultiple(of: groups), MLX.widths.contains(words * 32 / inputs)
    else {
      throw .unsupported(
        "\(path): words \(weight.shape) and scales \(scales.shape) hold no codes of 2 to 8 bits for "
          + "\(inputs) inputs")
    }
    let (bits, group) = (words * 32 / inputs, inputs / groups)
    let packed = try checkpoint.bytes(path + ".weight", .u32, [outputs, words])
    let codes = DenseCodes.unpack(packed, count: outputs * inputs, bits: bits)
    switch modes[path] ?? mode {
    case MLX.affine:
      return .quantized(
        try affine(path, codes, bits, group, outputs: outputs, inputs: inputs), inputs: nil)
    case MLX.microscaled where bits == 4 && group == 32:
      let scheme = WeightScheme(format: .mxfp4, granularity: .group(group))
      let bytes = try checkpoint.bytes(path + ".scales", .u8, [outputs, groups]).array
      if let index = bytes.firstIndex(of: 255) {
        throw .unsupported("\(path).scales: scale \(index) is no number")
      }
      return .quantized(
        QuantizedMatrix(
          scheme: scheme, rows: outputs, columns: inputs, codes: codes,
          scales: bytes.map { Float(sign: .plus, exponent: Int($0) - 127, significand: 1) }),
        inputs: nil)
    case let other:
      throw .unsupported(
        "\(path): mode \"\(other)\" with \(bits) bits in groups of \(group) is not one that Nibble runs; "
          + "those are \(MLX.affine) and \(MLX.microscaled)")
    }
  }

  /// `w = q s + b` with q unsigned. Our codes are q less half their range, so the offset is `b + half
  /// s`: exact, since both are float16 or bfloat16 and close to each other.
  private func affine(
    _ path: String, _ codes: Bytes, _ bits: Int, _ group: Int, outputs: Int, inputs: Int
  ) throws(ModelError) -> QuantizedMatrix {
    let shape = [outputs, inputs / group]
    let scales = try numbers(path + ".scales", shape)
    let biases = try numbers(path + ".biases", shape)
    let half = Float(1 << (bits - 1))
    let offsets = zip(scales, biases).map { $1 + half * $0 }
    let isSymmetric = offsets.allSatisfy { $0 == 0 }
    let format: WeightScheme.Format =
      isSymmetric ? .int(bits: bits, symmetric: true) : .intWithOffsets(bits: bits)
    return QuantizedMatrix(
      scheme: WeightScheme(format: format, granularity: .group(group)), rows: outputs,
      columns: inputs, codes: codes, scales: scales, offsets: isSymmetric ? [] : offsets)
  }

  /// Finite numbers in any float format; scales may be below zero.
  private func numbers(_ name: String, _ shape: [Int]) throws(ModelError) -> [Float] {
    guard let tensor = checkpoint.tensor(name) else {
      throw .missingTensor(name, path: checkpoint.path)
    }
    guard let format = tensor.dtype.floatFormat else {
      throw .tensorType(name, found: tensor.dtype.rawValue, expected: "F32, F16 or BF16")
    }
    guard tensor.shape == shape else {
      throw .tensorShape(name, found: tensor.shape, expected: shape)
    }
    let numbers = format.decode(try checkpoint.bytes(of: name))
    if let index = numbers.firstIndex(where: { !$0.isFinite }) {
      throw .unsupported("\(name): number \(index) is \(numbers[index])")
    }
    return numbers
  }
}
