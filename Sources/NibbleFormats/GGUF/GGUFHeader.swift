/// The header of a GGUF file: parsed and checked, with absolute offsets.
struct GGUFHeader {
  /// Largest alignment accepted, in bytes. Files in use have 32.
  static let alignmentLimit: UInt32 = 1 << 24

  struct Failure: Error {
    /// The key or tensor that is being read.
    var name: String?
    var byte: Int
    var fault: GGUFFault
  }

  private(set) var keys: [String] = []
  private(set) var metadata: [String: GGUFValue] = [:]
  private(set) var tensors: [GGUFTensor] = []

  init(_ bytes: Span<UInt8>) throws(Failure) {
    var cursor = GGUFCursor(bytes)
    var name: String?
    do throws(GGUFFault) {
      let counts = try Self.counts(&cursor)
      for _ in 0..<counts.metadata {
        let key = try Self.key(&cursor)
        name = key
        guard metadata[key] == nil else { throw .duplicateKey }
        metadata[key] = try cursor.value()
        keys.append(key)
        name = nil
      }
      name = "general.alignment"
      let alignment = try alignment()
      name = nil
      var infos: [Info] = []
      var seen: Set<UTF8Key> = []
      for _ in 0..<counts.tensors {
        let info = try Info(&cursor, name: &name)
        guard seen.insert(UTF8Key(info.name)).inserted else { throw .duplicateTensor }
        guard info.offset.isMultiple(of: UInt64(alignment)) else {
          throw .offsetNotAligned(info.offset, alignment)
        }
        infos.append(info)
        name = nil
      }
      let start = (cursor.at + alignment - 1) / alignment * alignment
      for info in infos {
        name = info.name
        tensors.append(try info.placed(from: start, in: bytes.count))
      }
      try checkOverlap(name: &name)
    } catch { throw Failure(name: name, byte: cursor.at, fault: error) }
  }

  private static func counts(
    _ cursor: inout GGUFCursor
  ) throws(GGUFFault) -> (tensors: Int, metadata: Int) {
    guard cursor.remaining >= 4, try cursor.integer(UInt32.self) == 0x4655_4747 else {
      throw .notGGUF
    }
    let version = try cursor.integer(UInt32.self)
    guard !(1...3).contains(version.byteSwapped) else { throw .bigEndian }
    guard (2...3).contains(version) else { throw .version(version) }
    // The shortest tensor: an empty name, no dimensions, type, offset. The shortest member: an
    // empty key, a type, one byte.
    return (try cursor.count(bytesEach: 24), try cursor.count(bytesEach: 13))
  }

  private static func key(_ cursor: inout GGUFCursor) throws(GGUFFault) -> String {
    let range = try cursor.string()
    guard range.count <= 65535 else { throw .keyTooLong(range.count) }
    let bytes = cursor.copy(range)
    guard bytes.allSatisfy({ $0 < 0x80 }) else { throw .keyNotASCII }
    return String(decoding: bytes, as: UTF8.self)
  }

  private func alignment() throws(GGUFFault) -> Int {
    guard let value = metadata["general.alignment"] else { return 32 }
    guard case .u32(let alignment) = value else { throw .alignment(nil) }
    guard (8...Self.alignmentLimit).contains(alignment), alignment.nonzeroBitCount == 1 else {
      throw .alignment(alignment)
    }
    return Int(alignment)
  }

  private func checkOverlap(name: inout String?) throws(GGUFFault) {
    let inOrder = tensors.filter { !$0.range.isEmpty }
      .sorted { $0.range.lowerBound < $1.range.lowerBound }
    for (left, right) in zip(inOrder, inOrder.dropFirst())
    where right.range.lowerBound < left.range.upperBound {
      name = right.name
      throw .overlaps(left.name)
    }
  }
}

extension GGUFHeader {
  /// One tensor in the header, before the start of the data section is known.
  private struct Info {
    var name: String
    var type: GGMLType
    var shape: [Int]
    var byteCount: Int
    var offset: UInt64

    /// - Parameter label: set to the tensor's name as soon as it is known, for errors.
    init(_ cursor: inout GGUFCursor, name label: inout String?) throws(GGUFFault) {
      let range = try cursor.string()
      guard range.count <= 64 else { throw .nameTooLong(range.count) }
      guard let name = String(validating: cursor.copy(range), as: UTF8.self) else {
        throw .nameNotUTF8
      }
      label = name
      self.name = name
      let dimensions = try cursor.integer(UInt32.self)
      guard dimensions <= 4 else { throw .dimensions(dimensions) }
      var sizes: [UInt64] = []
      for _ in 0..<dimensions { sizes.append(try cursor.integer()) }
      let number = try cursor.integer(UInt32.self)
      guard let type = GGMLType(rawValue: number) else { throw .tensorType(number) }
      self.type = type
      offset = try cursor.integer()

      let (shape, bytes) = try Self.sizes(sizes, type)
      self.shape = shape
      byteCount = bytes
    }

    /// The shape in Hugging Face order, and its size in bytes.
    ///
    /// In the overflow check a dimension of zero counts as one, so that no product of any of the
    /// dimensions overflows `Int`.
    private static func sizes(
      _ sizes: [UInt64], _ type: GGMLType
    ) throws(GGUFFault) -> ([Int], Int) {
      // No block has more than 8 bytes per element.
      var bound: UInt64 = 8
      for size in sizes {
        let (product, overflow) = bound.multipliedReportingOverflow(by: max(size, 1))
        guard !overflow, product <= UInt64(Int.max) else { throw .tooManyElements(sizes) }
        bound = product
      }
      let shape = sizes.reversed().map { Int($0) }
      let k = shape.last ?? 1
      guard k.isMultiple(of: type.blockElements) else { throw .rowNotWhole(k, type) }
      return (shape, type.byteCount(shape.reduce(1, *)))
    }

    func placed(from start: Int, in end: Int) throws(GGUFFault) -> GGUFTensor {
      let room = max(end - start, 0)
      guard start <= end, offset <= UInt64(room), byteCount <= room - Int(offset) else {
        throw .dataPastEnd(offset: offset, bytes: byteCount, room: room)
      }
      let first = start + Int(offset)
      return GGUFTensor(name: name, type: type, shape: shape, range: first..<first + byteCount)
    }
  }
}
