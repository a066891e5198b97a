public import NibbleFormats
public import NibbleTensor

extension DType {
  /// The float format of the type; nil for integers and other types.
  public var floatFormat: FloatFormat? {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    default: nil
    }
  }
}

extension FloatFormat {
  public var dtype: DType {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    }
  }
}

extension Checkpoint {
  /// Data of a tensor: mapped if its stored form is used as is, else widened.
  public func bytes(of name: String) throws(ModelError) -> Bytes {
    guard let tensor = tensor(name) else { throw .missingTensor(name, path: path) }
    return try bytes(of: tensor, rows: 0..<(tensor.shape.first ?? 1))
  }

  /// Data of some rows, which are indices of the first dimension.
  public func bytes(of tensor: Tensor, rows: Range<Int>) throws(ModelError) -> Bytes {
    let mapped: Bytes?
    switch container {
    case .safetensors(let files): mapped = files.bytes(of: tensor.name)
    case .pytorch(let files): mapped = files.bytes(of: tensor.name)
    case .gguf(let model): return try model.bytes(of: tensor.name, rows: rows)
    case .decoded(let weights): return try weights.bytes(of: tensor, rows: rows)
    }
    guard let bytes = mapped else { throw .missingTensor(tensor.name, path: path) }
    let rowBytes = bytes.count / max(1, tensor.shape.first ?? 1)
    return tensor.shape.isEmpty
      ? bytes : bytes[rows.lowerBound * rowBytes..<rows.upperBound * rowBytes]
  }

  /// Data of a tensor as the file stores it: mapped, not widened.
  package func storedBytes(of name: String) throws(ModelError) -> Bytes {
    switch container {
    case .safetensors, .pytorch, .decoded: try bytes(of: name)
    case .gguf(let model): try model.storedBytes(of: name)
    }
  }

  /// A float matrix by its tensor name. Throws if its shape is another; that of a convolution of one
  /// channel each, `[rows, 1, columns]`, counts as a matrix.
  public func matrix(_ name: String, rows: Int, columns: Int) throws(ModelError) -> FloatMatrix {
    let isConvolution = tensor(name)?.shape == [rows, 1, columns]
    let tensor = try float(
      name, shape: isConvolution ? [rows, 1, columns] : [rows, columns])
    return FloatMatrix(
      format: tensor.format, rows: rows, columns: columns, bytes: try bytes(of: name))
  }

  private func float(
    _ name: String, shape: [Int]
  ) throws(ModelError) -> (Tensor, format: FloatFormat) {
    guard let tensor = tensor(name) else { throw .missingTensor(name, path: path) }
    guard tensor.shape == shape else {
      throw .tensorShape(name, found: tensor.shape, expected: shape)
    }
    guard let format = tensor.dtype.floatFormat else {
      throw .tensorType(name, found: tensor.dtype.rawValue, expected: "F32, F16 or BF16")
    }
    return (tensor, format)
  }
}

extension Checkpoint: WeightSource {
  public func weight(
    _ path: String, outputs: Int, inputs: Int
  ) throws(ModelError) -> Weight {
    .float(try matrix(path + ".weight", rows: outputs, columns: inputs))
  }

  public func vector(_ name: String, count: Int) throws(ModelError) -> [Float]? {
    guard tensor(name) != nil else { return nil }
    let format = try float(name, shape: [count]).format
    let values = format.decode(try bytes(of: name))
    if let index = values.firstIndex(where: { !$0.isFinite }) {
      throw .nonFinite(tensor: name, index: index)
    }
    return values
  }
}
