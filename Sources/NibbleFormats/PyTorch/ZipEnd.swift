import NibbleTensor

/// The records at the end of a ZIP archive, which locate its directory.
struct ZipEnd {
  private static let bytes = 22
  private static let locatorBytes = 20
  private static let wideBytes = 56

  /// Relative to the start of the archive; the records follow it directly.
  let directory: Range<Int>
  let entryCount: UInt64

  init(_ content: Bytes) throws(ZipFault) {
    let start = content.count - Self.bytes
    guard start >= 0 else { throw .noDirectory }
    var cursor = LittleEndianCursor(content[start..<content.count].array)
    guard cursor.integer(UInt32.self) == 0x0605_4B50,
      let disk = cursor.integer(UInt16.self), let firstDisk = cursor.integer(UInt16.self),
      let countHere = cursor.integer(UInt16.self), let count = cursor.integer(UInt16.self),
      let size = cursor.integer(UInt32.self), let offset = cursor.integer(UInt32.self),
      cursor.integer(UInt16.self) == 0
    else { throw .noDirectory }
    let wide = try Self.wide(content, before: start)
    // Taken from the 64-bit record when it does not fit here; otherwise both hold it.
    func value(_ narrow: some FixedWidthInteger, _ wideValue: UInt64?) throws(ZipFault) -> UInt64 {
      guard let wideValue else {
        guard narrow != type(of: narrow).max else { throw .zip64NotReadable }
        return UInt64(narrow)
      }
      guard narrow == type(of: narrow).max || UInt64(narrow) == wideValue else {
        throw .zip64NotReadable
      }
      return wideValue
    }
    guard disk == 0 || disk == .max, firstDisk == 0 || firstDisk == .max else {
      throw .severalDisks
    }
    entryCount = try value(count, wide?.count)
    guard try value(countHere, wide?.count) == entryCount else { throw .severalDisks }
    let (bytes, from) = (try value(size, wide?.bytes), try value(offset, wide?.offset))
    guard bytes <= UInt64(ZipArchive.directoryLimit) else { throw .directoryTooLong(bytes) }
    let end = wide?.start ?? start
    guard from <= UInt64(end), bytes == UInt64(end) - from else {
      throw .directoryOutside(offset: from, bytes: bytes, expectedEnd: end)
    }
    directory = Int(from)..<end
  }

  /// The 64-bit record, if a locator before `end` points to one.
  private static func wide(
    _ content: Bytes, before end: Int
  ) throws(ZipFault) -> (start: Int, count: UInt64, bytes: UInt64, offset: UInt64)? {
    let locator = end - locatorBytes
    guard locator >= 0 else { return nil }
    var cursor = LittleEndianCursor(content[locator..<end].array)
    guard cursor.integer(UInt32.self) == 0x0706_4B50 else { return nil }
    guard let disk = cursor.integer(UInt32.self), let offset = cursor.integer(UInt64.self),
      let disks = cursor.integer(UInt32.self)
    else { throw .zip64NotReadable }
    guard disk == 0, disks <= 1 else { throw .severalDisks }
    // torch.save and Python's zipfile write the record without an extension.
    guard locator >= wideBytes, offset == UInt64(locator - wideBytes) else {
      throw .zip64NotReadable
    }
    let start = locator - wideBytes
    cursor = LittleEndianCursor(content[start..<locator].array)
    guard cursor.integer(UInt32.self) == 0x0606_4B50,
      cursor.integer(UInt64.self) == UInt64(wideBytes - 12), cursor.skip(4) != nil,
      let here = cursor.integer(UInt32.self), let first = cursor.integer(UInt32.self),
      let countHere = cursor.integer(UInt64.self), let count = cursor.integer(UInt64.self),
      let bytes = cursor.integer(UInt64.self), let from = cursor.integer(UInt64.self)
    else { throw .zip64NotReadable }
    guard here == 0, first == 0, countHere == count else { throw .severalDisks }
    return (start, count, bytes, from)
  }
}
