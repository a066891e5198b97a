import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

/// The vectors of a quantized checkpoint that can be tuned, and the tensors that they are stored in.
struct TunableVectors {
  /// A tensor that is replaced.
  struct Tensor {
    let name: String
    /// Rows of the vector as a matrix; 1 for norms. The tensor holds it transposed if `isTransposed`.
    let rows: Int
    let isTransposed: Bool
  }

  private(set) var vectors: [TunedVector] = []
  private(set) var tensors: [Tensor] = []

  /// - Throws: when the scales are no floats, or the gradient of a block is not known.
  init(_ model: LoadedModel) throws(ModelError) {
    let (checkpoint, decoder) = (model.checkpoint, model.decoder)
    let method = try checkpoint.quantizationMethod()
    guard let format = method.flatMap(EngineFormat.init(named:)),
      [.compressedTensors, .awq, .fp8, .gptq].contains(format)
    else {
      throw .unsupported(
        "\(checkpoint.path): tune reads quantized checkpoints of the formats compressed-tensors, awq, "
          + "fp8 and gptq, not \(method ?? "float ones")")
    }
    for block in decoder.blocks {
      if let fault = BlockTape.fault(block.shape) {
        throw .unsupported("\(checkpoint.path): \(block.shape.path) cannot be tuned: \(fault)")
      }
    }
    for (index, block) in decoder.blocks.enumerated() {
      for linear in block.shape.linears {
        guard let codes = block.linears[linear.id]?.weight.codes,
          let tensor = Self.scales(of: codes, at: block.shape.path(of: linear.id), format)
        else { continue }
        add(.block(index, .scales(linear.id)), codes.scales, tensor, 0, checkpoint)
      }
    }
    guard !vectors.isEmpty else {
      throw .unsupported(
        "\(checkpoint.path): no weight has float scales per channel, group or block. Scales of "
          + "mxfp4 and nvfp4 are codes, and one scale for a whole weight is shared by layers that "
          + "engines fuse")
    }
    for (index, block) in decoder.blocks.enumerated() {
      for norm in block.shape.norms where norm.hasWeight {
        guard let values = block.norms[norm.path]?.weight else { continue }
        let name = "\(block.shape.path(of: norm)).weight"
        add(
          .block(index, .norm(norm.path)), values,
          Tensor(name: name, rows: 1, isTransposed: false), norm.offset, checkpoint)
      }
    }
    if let norm = decoder.ends.finalNorm, norm.shape.hasWeight {
      add(
        .finalNorm, norm.weight,
        Tensor(name: "\(norm.shape.path).weight", rows: 1, isTransposed: false),
        norm.shape.offset, checkpoint)
    }
  }

  /// The tensor of a weight's scales; nil if they cannot be tuned.
  private static func scales(
    of codes: QuantizedMatrix, at path: String, _ format: EngineFormat
  ) -> Tensor? {
    guard codes.scheme.format.scales == .float, codes.scheme.granularity != .tensor,
      codes.inputOrder.isEmpty
    else {
      return nil
    }
    let rows = codes.grid.bands
    return switch format {
    case .compressedTensors:
      Tensor(name: "\(path).weight_scale", rows: rows, isTransposed: false)
    case .awq, .gptq: Tensor(name: "\(path).scales", rows: rows, isTransposed: true)
    case .fp8: Tensor(name: "\(path).weight_scale_inv", rows: rows, isTransposed: false)
    default: nil
    }
  }

  /// Adds a vector, if the checkpoint stores it as floats.
  private mutating func add(
    _ place: TunedVector.Place, _ values: [Float], _ tensor: Tensor, _ offset: Float,
    _ checkpoint: Checkpoint
  ) {
    guard let stored = checkpoint.tensor(tensor.name), stored.elementCount == values.count,
      let format = stored.dtype.floatFormat
    else { return }
    vectors.append(TunedVector(place, values: values, format: format, offset: offset))
    tensors.append(tensor)
  }

  /// The bytes of each tensor with the values of a model that was tuned.
  func bytes(of tuning: Tuning) -> [String: [UInt8]] {
    var bytes: [String: [UInt8]] = [:]
    for (index, tensor) in tensors.enumerated() {
      let vector = vectors[index]
      var values = tuning.values(of: index, stored: true)
      if tensor.isTransposed {
        values = transposed(values, rows: tensor.rows, columns: values.count / tensor.rows)
      }
      values = values.map { $0 - vector.offset }
      bytes[tensor.name] = vector.format.encode(values.span)
    }
    return bytes
  }
}
