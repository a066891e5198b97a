/// One Unicode scalar read from UTF-8.
struct UTF8Scalar {
  var value: UInt32
  /// How many bytes it takes, 1...4.
  var length: Int
}

extension Span<UInt8> {
  /// The scalar that starts at `at`. The bytes are valid UTF-8 and `at` is a boundary.
  @inline(__always)
  func scalar(at: Int) -> UTF8Scalar {
    let first = UInt32(self[at])
    if first < 0x80 { return UTF8Scalar(value: first, length: 1) }
    let second = UInt32(self[at + 1] & 0x3F)
    if first < 0xE0 { return UTF8Scalar(value: (first & 0x1F) << 6 | second, length: 2) }
    let third = UInt32(self[at + 2] & 0x3F)
    if first < 0xF0 {
      return UTF8Scalar(value: (first & 0x0F) << 12 | second << 6 | third, length: 3)
    }
    let fourth = UInt32(self[at + 3] & 0x3F)
    let value = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
    return UTF8Scalar(value: value, length: 4)
  }

  /// The scalar that ends just before `end`, which is above 0 and a boundary.
  @inline(__always)
  func scalar(before end: Int) -> UTF8Scalar {
    var at = end - 1
    while at > 0, self[at] & 0xC0 == 0x80 { at -= 1 }
    return scalar(at: at)
  }
}

extension [UInt8] {
  mutating func append(_ scalar: Unicode.Scalar) {
    append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
  }
}
