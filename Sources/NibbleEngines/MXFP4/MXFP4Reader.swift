import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Reads a checkpoint with `quant_method: "mxfp4"`, as gpt-oss is published: stacked experts in
/// MXFP4, everything else float.
///
/// A value is `code · 2^(scale - 127)`, with one scale per 32 inputs and codes 0, ½, 1, 1½, 2, 3,
/// 4, 6 and their negatives. Twice a code is an integer, so the weights convert to int8 exactly.
/// Source: OCP Microscaling Formats 1.0; transformers `integrations/mxfp4.py`.
public struct MXFP4Reader: EngineReader, CheckpointSource {
  package static let method = "mxfp4"

  package static func storedNames(_ decoder: DecoderShape) -> StoredNames {
    StoredNames(linear: [], stacked: ["_blocks", "_scales"])
  }

  package static func open(
    _ checkpoint: Checkpoint, _ decoder: DecoderShape, _ settings: ReaderSettings
  ) throws(ModelError) -> MXFP4Reader { MXFP4Reader(checkpoint: checkpoint) }

  /// Inputs per scale.
  private static let group = 32
  private static let scheme = WeightScheme(
    format: .int(bits: 8, symmetric: true), granularity: .group(group))
  /// Twice the value of each code; bit 3 is the sign.
  private static let doubled: [Int8] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

  public let checkpoint: Checkpoint

  public init(checkpoint: Checkpoint) { self.checkpoint = checkpoint }

  public func weight(_ path: String, outputs: Int, inputs: Int) throws(ModelError) -> Weight {
    try checkpoint.weight(path, outputs: outputs, inputs: inputs)
  }

  /// Stored as `[outputs, inputs]`, even if the float form of the tensor is transposed.
  public func stacked(
    _ linear: LinearShape, _ stack: LinearShape.Stack, in block: String
  ) throws(ModelError) -> (weight: Weight, bias: [Float]?) {
    let name = "\(block).\(stack.tensor)"
    guard linear.inputs.isMultiple(of: Self.group) else {
      throw .unsupported("\(name): \(linear.inputs) inputs are no groups of \(Self.group)")
    }
    let groups = linear.inputs / Self.group
    let shape = [stack.experts, stack.outputs, groups]
    let packed = try bytes(name + "_blocks", shape + [Self.group / 2], stack.expert)
    let exponents = try bytes(name + "_scales", shape, stack.expert).array
    var codes = [UInt8](repeating: 0, count: linear.outputs * linear.inputs)
    var scales: [Float] = []
    scales.reserveCapacity(linear.outputs * groups)
    let pairs = packed.array
    for output in 0..<linear.outputs {
      let row = stack.first + output * stack.step
      for group in row * groups..<(row + 1) * groups {
        guard exponents[group] != 255 else {
          throw .unsupported(
            "\(name)_scales: scale \(group) of expert \(stack.expert) is not a number")
        }
        scales.append(Float(sign: .plus, exponent: Int(exponents[group]) - 128, significand: 1))
      }
      let (from, to) = (row * linear.inputs / 2, output * linear.inputs)
      for pair in 0..<linear.inputs / 2 {
        let byte = pairs[from + pair]
        codes[to + 2 * pair] = UInt8(bitPattern: Self.doubled[Int(byte & 15)])
        codes[to + 2 * pair + 1] = UInt8(bitPattern: Self.doubled[Int(byte >> 4)])
      }
    }
    packed.release()
    let matrix = QuantizedMatrix(
      scheme: Self.scheme, rows: linear.outputs, columns: linear.inputs, codes: Bytes(codes),
      scales: scales)
    return (
      .quantized(matrix, inputs: nil), try checkpoint.stackedBias(linear, stack, in: block)
    )
  }

  /// The stored bytes of one expert.
  private func bytes(_ name: String, _ shape: [Int], _ expert: Int) throws(ModelError) -> Bytes {
    let tensor = try checkpoint.stackedTensor(name, shape)
    guard tensor.dtype == .u8 else {
      throw .tensorType(name, found: tensor.dtype.rawValue, expected: "U8")
    }
    return try checkpoint.bytes(of: tensor, rows: expert..<expert + 1)
  }
}

extension EngineFormat {
  public static let mxfp4 = EngineFormat(reading: MXFP4Reader.self)
}
