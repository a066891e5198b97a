/// Reads little-endian numbers from bytes in memory, never past their end.
struct LittleEndianCursor {
  let bytes: [UInt8]
  private(set) var at = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var remaining: Int { bytes.count - at }

  /// The next integer; nil, without moving, where fewer bytes remain.
  mutating func integer<Integer: FixedWidthInteger>(
    _: Integer.Type = Integer.self
  ) -> Integer? {
    let size = Integer.bitWidth / 8
    guard remaining >= size else { return nil }
    var value: UInt64 = 0
    for index in 0..<size { value |= UInt64(bytes[at + index]) << (8 * index) }
    at += size
    return Integer(truncatingIfNeeded: value)
  }

  /// Range of the next `count` bytes; nil, without moving, where fewer remain.
  mutating func skip(_ count: Int) -> Range<Int>? {
    guard count >= 0, count <= remaining else { return nil }
    at += count
    return at - count..<at
  }
}
