/// The tensors of a state dict with their ranges in the archive, all checked.
struct StateDict {
  /// torch allows 64; weights have at most five.
  static let dimensionLimit = 8

  /// In the order of the state dict. Ranges are relative to the start of the archive; tied weights
  /// have the same range.
  private(set) var entries: [TensorEntry] = []

  /// - Parameter root: the archive's folder.
  init(
    _ value: PickleValue, of machine: PickleMachine, in archive: ZipArchive, root: String
  ) throws(PyTorchFailure) {
    guard case .dictionary(let dictionary) = value else {
      throw PyTorchFailure(nil, .notStateDict(value.kind))
    }
    var seen: Set<UTF8Key> = []
    for (key, value) in machine.dictionaries[dictionary] {
      guard case .text(let text) = key else { throw PyTorchFailure(nil, .nameNotText(key.kind)) }
      guard let name = machine.string(text) else { throw PyTorchFailure(nil, .nameNotUTF8) }
      do throws(PyTorchFault) {
        guard seen.insert(UTF8Key(name)).inserted else { throw .duplicateName }
        guard case .tensor(let tensor) = value else { throw .notTensor(value.kind) }
        entries.append(try Self.entry(name, machine.tensors[tensor], machine, archive, root))
      } catch { throw PyTorchFailure(name, error) }
    }
  }

  private static func entry(
    _ name: String, _ tensor: PickleTensor, _ machine: PickleMachine, _ archive: ZipArchive,
    _ root: String
  ) throws(PyTorchFault) -> TensorEntry {
    let shape = try integers(machine.tuples[tensor.sizes])
    let strides = try integers(machine.tuples[tensor.strides])
    guard strides.count == shape.count else { throw .sizesNotIntegers }
    let storage = machine.storages[tensor.storage]
    let byteCount: Int
    do { byteCount = try storage.dtype.byteCount(shape) } catch { throw .shape(error) }
    guard isContiguous(shape, strides) else {
      throw .notContiguous(shape: shape, strides: strides)
    }
    let key = machine.string(storage.key) ?? ""
    guard let file = archive.range(of: "\(root)/data/\(key)") else { throw .noStorage(key) }
    let width = storage.dtype.bits / 8
    let (bytes, overflow) = Int(storage.count).multipliedReportingOverflow(by: width)
    guard !overflow, bytes == file.count else {
      throw .storageSize(
        key, elements: Int(storage.count), dtype: storage.dtype, found: file.count)
    }
    // The offset is at most `count`, so its byte count does not overflow either.
    let offset = Int(tensor.offset)
    guard (0...Int(storage.count)).contains(offset), byteCount <= bytes - offset * width else {
      throw .outsideStorage(key, offset: offset, shape: shape, elements: Int(storage.count))
    }
    let start = file.lowerBound + offset * width
    return TensorEntry(
      name: name, dtype: storage.dtype, shape: shape, range: start..<start + byteCount)
  }

  private static func integers(_ values: [PickleValue]) throws(PyTorchFault) -> [Int] {
    guard values.count <= dimensionLimit else { throw .dimensions(values.count) }
    var integers: [Int] = []
    for value in values {
      guard case .int(let integer) = value else { throw .sizesNotIntegers }
      integers.append(Int(integer))
    }
    return integers
  }

  /// As torch's is_contiguous: strides of dimensions of size 1 are ignored, and a tensor without
  /// elements is contiguous.
  ///
  /// - Parameter shape: not negative; its product, with zeros counted as one, fits `Int`.
  private static func isContiguous(_ shape: [Int], _ strides: [Int]) -> Bool {
    if shape.contains(0) { return true }
    var expected = 1
    for (size, stride) in zip(shape, strides).reversed() where size != 1 {
      guard stride == expected else { return false }
      expected *= size
    }
    return true
  }
}
