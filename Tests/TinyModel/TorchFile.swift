public import NibbleFormats
import NibbleTensor

/// A state dict as torch.save writes one. `torch.load(path, weights_only=True)` reads it.
public struct TorchFile: Sendable {
  public struct Tensor: Sendable {
    public var name: String
    public var dtype: DType
    public var shape: [Int]
    /// Number of its storage.
    public var storage: Int

    public init(_ name: String, _ dtype: DType, _ shape: [Int], storage: Int) {
      self.name = name
      self.dtype = dtype
      self.shape = shape
      self.storage = storage
    }
  }

  public var tensors: [Tensor]
  public var storages: [[UInt8]]
  public var byteOrder = "little"

  public init(_ tensors: [Tensor], storages: [[UInt8]]) {
    self.tensors = tensors
    self.storages = storages
  }

  /// The tensors of a safetensors file, in another order, each with a storage of its own.
  public init(_ file: SafetensorsFile) {
    let entries = Array(file.entries.reversed())
    storages = entries.map { file.bytes(of: $0.name)?.array ?? [] }
    tensors = entries.enumerated().map { index, entry in
      Tensor(entry.name, entry.dtype, entry.shape, storage: index)
    }
  }

  public var bytes: [UInt8] { archive(pickle).bytes }

  /// The archive with any other pickle.
  public func archive(_ pickle: [UInt8]) -> StoredZip {
    StoredZip(
      [
        StoredZip.Entry("tiny/data.pkl", pickle),
        StoredZip.Entry("tiny/byteorder", Array(byteOrder.utf8)),
      ]
        + storages.enumerated().map { StoredZip.Entry("tiny/data/\($0.offset)", $0.element) }
        + [StoredZip.Entry("tiny/version", Array("3\n".utf8))])
  }

  public var pickle: [UInt8] {
    [0x80, 2] + Array("}(".utf8) + tensors.flatMap(pickle) + Array("u.".utf8)
  }

  private func pickle(_ tensor: Tensor) -> [UInt8] {
    let count = storages[tensor.storage].count * 8 / tensor.dtype.bits
    var (strides, stride) = ([Int](), 1)
    for size in tensor.shape.reversed() {
      strides.insert(stride, at: 0)
      stride *= size
    }
    return Self.text(tensor.name) + Self.global("torch._utils", "_rebuild_tensor_v2")
      + Array("((".utf8) + Self.text("storage")
      + Self.global("torch", Self.storageClass(tensor.dtype)) + Self.text("\(tensor.storage)")
      + Self.text("cpu") + Self.integer(count) + Array("tQ".utf8) + Self.integer(0)
      + Self.tuple(tensor.shape) + Self.tuple(strides) + [0x89]
      + Self.global("collections", "OrderedDict") + Array(")RtR".utf8)
  }

  public static func text(_ text: String) -> [UInt8] {
    [UInt8(ascii: "X")] + StoredZip.u32(UInt32(text.utf8.count)) + Array(text.utf8)
  }

  public static func integer(_ value: Int) -> [UInt8] {
    [UInt8(ascii: "J")] + StoredZip.u32(UInt32(truncatingIfNeeded: value))
  }

  public static func tuple(_ values: [Int]) -> [UInt8] {
    Array("(".utf8) + values.flatMap(integer) + Array("t".utf8)
  }

  public static func global(_ module: String, _ name: String) -> [UInt8] {
    Array("c\(module)\n\(name)\n".utf8)
  }

  private static func storageClass(_ dtype: DType) -> String {
    switch dtype {
    case .f16: "HalfStorage"
    case .bf16: "BFloat16Storage"
    case .i64: "LongStorage"
    case .u8: "ByteStorage"
    default: "FloatStorage"
    }
  }
}
