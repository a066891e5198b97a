import NibbleTensor

/// The directory of a ZIP archive, with one entry per file.
enum ZipDirectory {
  struct Header {
    var name: String
    var nameBytes: [UInt8]
    var flags: UInt16
    /// Bytes of the content.
    var size: UInt64
    /// Offset of the file's own header from the start of the archive.
    var offset: UInt64
  }

  /// In the order of the directory; each is stored, and not encrypted.
  static func headers(_ content: Bytes, _ end: ZipEnd) throws(PyTorchFailure) -> [Header] {
    var cursor = LittleEndianCursor(content[end.directory].array)
    var headers: [Header] = []
    while cursor.remaining > 0 {
      let start = cursor.at
      guard let header = try header(&cursor) else {
        throw PyTorchFailure(nil, .zip(.directoryNotReadable(byte: start)))
      }
      headers.append(header)
    }
    guard UInt64(headers.count) == end.entryCount else {
      throw PyTorchFailure(nil, .zip(.entryCount(end.entryCount, found: headers.count)))
    }
    return headers
  }

  /// The next header; nil at the end.
  private static func header(
    _ cursor: inout LittleEndianCursor
  ) throws(PyTorchFailure) -> Header? {
    guard cursor.integer(UInt32.self) == 0x0201_4B50, cursor.skip(4) != nil,
      let flags = cursor.integer(UInt16.self), let method = cursor.integer(UInt16.self),
      cursor.skip(8) != nil,
      let packed = cursor.integer(UInt32.self), let unpacked = cursor.integer(UInt32.self),
      let nameCount = cursor.integer(UInt16.self), let extraCount = cursor.integer(UInt16.self),
      let commentCount = cursor.integer(UInt16.self), let disk = cursor.integer(UInt16.self),
      cursor.skip(6) != nil, let offset = cursor.integer(UInt32.self),
      let nameRange = cursor.skip(Int(nameCount)), let extra = cursor.skip(Int(extraCount)),
      cursor.skip(Int(commentCount)) != nil
    else { return nil }
    let nameBytes = Array(cursor.bytes[nameRange])
    guard nameBytes.count <= ZipArchive.nameLimit else {
      throw PyTorchFailure(nil, .zip(.nameTooLong(nameBytes.count)))
    }
    guard let name = String(validating: nameBytes, as: UTF8.self) else {
      throw PyTorchFailure(nil, .zip(.nameNotUTF8))
    }
    do throws(ZipFault) {
      // Bits 0, 6 and 13: encryption of the content, a stronger one, encryption of the headers.
      guard flags & (1 | 1 << 6 | 1 << 13) == 0 else { throw .encrypted }
      guard method == 0 else { throw .compressed(method: method) }
      guard disk == 0 else { throw .severalDisks }
      var wide = ZipWideFields(Array(cursor.bytes[extra]))
      let size = try wide.value(unpacked)
      let packedSize = try wide.value(packed)
      let from = try wide.value(offset)
      guard size == packedSize else { throw .sizesDiffer(packed: packedSize, unpacked: size) }
      return Header(name: name, nameBytes: nameBytes, flags: flags, size: size, offset: from)
    } catch { throw PyTorchFailure(name, .zip(error)) }
  }
}

extension ZipDirectory.Header {
  /// Start of the file's own header and range of its content, both before `end`.
  func data(
    in content: Bytes, before end: Int
  ) throws(ZipFault) -> (start: Int, range: Range<Int>) {
    let fixed = 30
    guard end >= fixed, offset <= UInt64(end - fixed) else { throw .headerOutside(offset) }
    let start = Int(offset)
    let head = content[start..<min(end, start + fixed + nameBytes.count)]
    defer { head.releaseAround() }
    var cursor = LittleEndianCursor(head.array)
    guard cursor.integer(UInt32.self) == 0x0403_4B50, cursor.skip(2) != nil,
      let flags = cursor.integer(UInt16.self), let method = cursor.integer(UInt16.self),
      cursor.skip(8) != nil,
      let packed = cursor.integer(UInt32.self), let unpacked = cursor.integer(UInt32.self),
      let nameCount = cursor.integer(UInt16.self), let extraCount = cursor.integer(UInt16.self)
    else { throw .headersDiffer("signature") }
    guard flags == self.flags else { throw .headersDiffer("flags") }
    guard method == 0 else { throw .headersDiffer("method") }
    guard Int(nameCount) == nameBytes.count, let name = cursor.skip(nameBytes.count),
      cursor.bytes[name].elementsEqual(nameBytes)
    else { throw .headersDiffer("name") }
    let extra = start + fixed + Int(nameCount)
    guard end - extra >= Int(extraCount) else { throw .headerOutside(offset) }
    // With bit 3 the sizes follow the content, and may be 0 here.
    if flags & 1 << 3 == 0 || packed != 0 || unpacked != 0 {
      var wide = ZipWideFields(content[extra..<extra + Int(extraCount)].array)
      guard try wide.value(unpacked) == size, try wide.value(packed) == size else {
        throw .headersDiffer("size")
      }
    }
    let from = extra + Int(extraCount)
    guard size <= UInt64(end - from) else {
      throw .dataOutside(offset: from, bytes: size, end: end)
    }
    return (start, from..<from + Int(size))
  }
}

/// The 64-bit values of an extra field. It has only those that do not fit their 32-bit field, in
/// the order of the fields.
private struct ZipWideFields {
  private var cursor: LittleEndianCursor?

  init(_ extra: [UInt8]) {
    var fields = LittleEndianCursor(extra)
    while let id = fields.integer(UInt16.self), let count = fields.integer(UInt16.self),
      let range = fields.skip(Int(count))
    {
      guard id == 1 else { continue }
      cursor = LittleEndianCursor(Array(extra[range]))
      return
    }
  }

  mutating func value(_ narrow: UInt32) throws(ZipFault) -> UInt64 {
    guard narrow == .max else { return UInt64(narrow) }
    guard let value = cursor?.integer(UInt64.self) else { throw .zip64NotReadable }
    return value
  }
}
