import NibbleFormats
import NibbleModel
import NibbleTensor

extension CheckpointFacts {
  /// Bytes that are read of one tensor, and how many tensors are read by a check.
  static let valueLimit = 1 << 14
  static let tensorLimit = 1 << 16
  /// Number of layers of which scales are read; of more layers, some are read.
  static let sampleLimit = 4096

  /// The layers whose values are read: all, or an even sample of many.
  var sampledLinears: [LinearFact] {
    guard linears.count > Self.sampleLimit else { return linears }
    let step = (linears.count + Self.sampleLimit - 1) / Self.sampleLimit
    return stride(from: 0, to: linears.count, by: step).map { linears[$0] }
  }

  /// The first numbers of a float tensor; nil if it is not there or of another type.
  func floats(_ tensor: StoredTensor?) -> [Float]? {
    guard let tensor, let format = tensor.dtype.floatFormat,
      let bytes = weights.bytes(of: tensor.name, limit: Self.valueLimit)
    else { return nil }
    return format.decode(bytes)
  }

  /// The first words of an integer tensor of 32 bits.
  func words(_ tensor: StoredTensor?) -> [UInt32]? {
    guard let tensor, tensor.dtype == .i32 || tensor.dtype == .u32,
      let bytes = weights.bytes(of: tensor.name, limit: Self.valueLimit)
    else { return nil }
    let content = bytes.array
    return (0..<content.count / 4).map { index in
      (0..<4).reduce(0 as UInt32) { $0 | UInt32(content[index * 4 + $1]) << (8 * $1) }
    }
  }

  /// The first bytes of a tensor.
  func rawBytes(_ tensor: StoredTensor?) -> [UInt8]? {
    tensor.flatMap { weights.bytes(of: $0.name, limit: Self.valueLimit) }?.array
  }
}
