/// A safetensors file before any data exists: the header, and the range of each tensor.
///
/// Tensors are stored back to back in the given order. The header is compact JSON in the same
/// order, `__metadata__` first, padded with spaces to a multiple of 8. With `referenceOrder` the
/// header has the same bytes as the reference writer's.
public struct SafetensorsLayout: Sendable, Hashable {
  public struct Tensor: Hashable, Sendable {
    public var name: String
    public var dtype: DType
    public var shape: [Int]

    public init(name: String, dtype: DType, shape: [Int]) {
      self.name = name
      self.dtype = dtype
      self.shape = shape
    }
  }

  /// In the order of the data; ranges are relative to the start of the file.
  public let entries: [TensorEntry]
  /// Content of `__metadata__`.
  public let metadata: [String: String]
  /// The first bytes of the file, the eight bytes of length included.
  public let header: [UInt8]
  private let positions: [UTF8Key: Int]

  /// - Parameter metadata: written besides `"format": "pt"`, which transformers 4 requires and
  ///   which replaces any other format.
  public init(_ tensors: [Tensor], metadata: [String: String] = [:]) throws(FormatError) {
    self.metadata = metadata.merging(["format": "pt"]) { _, format in format }
    var positions: [UTF8Key: Int] = [:]
    var relative: [TensorEntry] = []
    var end = 0
    for tensor in tensors {
      do throws(SafetensorsFault) {
        guard tensor.name != "__metadata__" else { throw .reservedName }
        guard positions.updateValue(relative.count, forKey: UTF8Key(tensor.name)) == nil else {
          throw .duplicateName
        }
        let sum = end.addingReportingOverflow(try tensor.dtype.byteCount(tensor.shape))
        guard !sum.overflow, sum.partialValue <= Int.max / 2 else {
          throw .tooManyElements(tensor.shape)
        }
        relative.append(
          TensorEntry(
            name: tensor.name, dtype: tensor.dtype, shape: tensor.shape,
            range: end..<sum.partialValue))
        end = sum.partialValue
      } catch { throw .layout(tensor: tensor.name, error) }
    }
    let header = Self.header(relative, self.metadata)
    guard header.count - 8 <= SafetensorsFile.headerLimit else {
      throw .layout(tensor: nil, .headerTooLong(UInt64(header.count - 8)))
    }
    self.header = header
    self.positions = positions
    entries = relative.map {
      TensorEntry(
        name: $0.name, dtype: $0.dtype, shape: $0.shape,
        range: $0.range.lowerBound + header.count..<$0.range.upperBound + header.count)
    }
  }

  public var fileSize: Int { entries.last?.range.upperBound ?? header.count }

  /// Bytes of all tensors: the `total_size` of an index.
  public var dataSize: Int { fileSize - header.count }

  public func entry(_ name: String) -> TensorEntry? {
    positions[UTF8Key(name)].map { entries[$0] }
  }

  /// Range of a tensor's data, relative to the start of the file.
  public func range(of name: String) -> Range<Int>? { entry(name)?.range }

  /// The order of the reference writer (safetensors 0.8.0): dtype from U64 down to BOOL, then
  /// name by its UTF-8 bytes. Every tensor is then aligned to its element.
  public static func referenceOrder(_ tensors: [Tensor]) -> [Tensor] {
    var rank: [DType: Int] = [:]
    for (index, dtype) in DType.allCases.reversed().enumerated() { rank[dtype] = index }
    return tensors.sorted { left, right in
      left.dtype == right.dtype
        ? left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
        : rank[left.dtype, default: 0] < rank[right.dtype, default: 0]
    }
  }

  private static func header(_ entries: [TensorEntry], _ metadata: [String: String]) -> [UInt8] {
    var object = JSONObject()
    var texts = JSONObject()
    let keys = metadata.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    for key in keys { texts[key] = metadata[key].map { .string($0) } }
    object["__metadata__"] = .object(texts)
    for entry in entries {
      object[entry.name] = [
        "dtype": .string(entry.dtype.rawValue),
        "shape": .array(entry.shape.map { JSON($0) }),
        "data_offsets": [JSON(entry.range.lowerBound), JSON(entry.range.upperBound)],
      ]
    }
    var text = Array(JSON.object(object).text().utf8)
    text += repeatElement(UInt8(ascii: " "), count: (8 - text.count % 8) % 8)
    let length = UInt64(text.count)
    return (0..<8).map { UInt8(truncatingIfNeeded: length >> ($0 * 8)) } + text
  }
}
