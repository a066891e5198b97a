import NibbleFormats
import NibbleModel
import NibbleTensor

extension Checkpoint {
  /// The data of a required tensor of this type and shape. The shape `[1]` may be `[]`.
  func bytes(
    _ name: String, _ dtype: DType, _ shape: [Int]
  ) throws(ModelError) -> Bytes {
    guard let tensor = tensor(name) else { throw .missingTensor(name, path: path) }
    guard tensor.shape == shape || shape == [1] && tensor.shape.isEmpty else {
      throw .tensorShape(name, found: tensor.shape, expected: shape)
    }
    guard tensor.dtype == dtype else {
      throw .tensorType(name, found: tensor.dtype.rawValue, expected: dtype.rawValue)
    }
    return try bytes(of: name)
  }

  /// Required scales: finite, above zero, in any float format. The shape `[1]` may be `[]`.
  func scales(_ name: String, _ shape: [Int]) throws(ModelError) -> [Float] {
    guard let tensor = tensor(name) else { throw .missingTensor(name, path: path) }
    guard let format = tensor.dtype.floatFormat else {
      throw .tensorType(name, found: tensor.dtype.rawValue, expected: "F32, F16 or BF16")
    }
    guard tensor.shape == shape || shape == [1] && tensor.shape.isEmpty else {
      throw .tensorShape(name, found: tensor.shape, expected: shape)
    }
    let scales = format.decode(try bytes(of: name))
    if let index = scales.firstIndex(where: { !($0.isFinite && $0 > 0) }) {
      throw .unsupported("\(name): scale \(index) is \(scales[index]); scales are above zero")
    }
    return scales
  }
}
