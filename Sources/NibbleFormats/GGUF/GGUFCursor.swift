/// Reads the little-endian numbers, strings and arrays of a GGUF header, never past the end.
struct GGUFCursor: ~Escapable {
  /// llama.cpp writes arrays of numbers and strings; the format allows arrays of arrays.
  static var depthLimit: Int { 4 }

  let bytes: Span<UInt8>
  private(set) var at = 0

  @_lifetime(copy bytes)
  init(_ bytes: Span<UInt8>) { self.bytes = bytes }

  var remaining: Int { bytes.count - at }

  @_lifetime(self: copy self)
  mutating func integer<Integer: FixedWidthInteger>(
    _: Integer.Type = Integer.self
  ) throws(GGUFFault) -> Integer {
    let size = Integer.bitWidth / 8
    guard remaining >= size else { throw .endsEarly }
    var value: UInt64 = 0
    for index in 0..<size { value |= UInt64(bytes[at + index]) << (8 * index) }
    at += size
    return Integer(truncatingIfNeeded: value)
  }

  /// A count of elements that take at least `bytesEach` bytes of the file each.
  @_lifetime(self: copy self)
  mutating func count(bytesEach: Int) throws(GGUFFault) -> Int {
    let count = try integer(UInt64.self)
    guard count <= UInt64(remaining / bytesEach) else { throw .countPastEnd(count) }
    return Int(count)
  }

  /// Range of the next string.
  @_lifetime(self: copy self)
  mutating func string() throws(GGUFFault) -> Range<Int> {
    let count = try count(bytesEach: 1)
    at += count
    return at - count..<at
  }

  func copy(_ range: Range<Int>) -> [UInt8] { range.map { bytes[$0] } }

  @_lifetime(self: copy self)
  mutating func bool() throws(GGUFFault) -> Bool {
    let byte = try integer(UInt8.self)
    guard byte <= 1 else { throw .notBool(byte) }
    return byte == 1
  }

  @_lifetime(self: copy self)
  mutating func value() throws(GGUFFault) -> GGUFValue {
    let type = try integer(UInt32.self)
    switch type {
    case 0: return .u8(try integer())
    case 1: return .i8(try integer())
    case 2: return .u16(try integer())
    case 3: return .i16(try integer())
    case 4: return .u32(try integer())
    case 5: return .i32(try integer())
    case 6: return .f32(Float(bitPattern: try integer()))
    case 7: return .bool(try bool())
    case 8: return .string(copy(try string()))
    case 9: return .array(try array(depth: 1))
    case 10: return .u64(try integer())
    case 11: return .i64(try integer())
    case 12: return .f64(Double(bitPattern: try integer()))
    default: throw .valueType(type)
    }
  }

  @_lifetime(self: copy self)
  private mutating func array(depth: Int) throws(GGUFFault) -> GGUFArray {
    guard depth <= Self.depthLimit else { throw .nestedTooDeep }
    let type = try integer(UInt32.self)
    switch type {
    case 0: return .u8(try integers())
    case 1: return .i8(try integers())
    case 2: return .u16(try integers())
    case 3: return .i16(try integers())
    case 4: return .u32(try integers())
    case 5: return .i32(try integers())
    case 6: return .f32(try integers(UInt32.self).map { Float(bitPattern: $0) })
    case 7:
      var values: [Bool] = []
      for _ in 0..<(try count(bytesEach: 1)) { values.append(try bool()) }
      return .bool(values)
    case 8: return .string(try strings())
    case 9:
      var values: [GGUFArray] = []
      for _ in 0..<(try count(bytesEach: 12)) { values.append(try array(depth: depth + 1)) }
      return .array(values)
    case 10: return .u64(try integers())
    case 11: return .i64(try integers())
    case 12: return .f64(try integers(UInt64.self).map { Double(bitPattern: $0) })
    default: throw .valueType(type)
    }
  }

  @_lifetime(self: copy self)
  private mutating func integers<Integer: FixedWidthInteger>(
    _: Integer.Type = Integer.self
  ) throws(GGUFFault) -> [Integer] {
    let count = try count(bytesEach: Integer.bitWidth / 8)
    var values: [Integer] = []
    values.reserveCapacity(count)
    for _ in 0..<count { values.append(try integer()) }
    return values
  }

  @_lifetime(self: copy self)
  private mutating func strings() throws(GGUFFault) -> GGUFStrings {
    let count = try count(bytesEach: 8)
    var values = GGUFStrings()
    values.reserve(count)
    for _ in 0..<count { values.append(bytes.extracting(try string())) }
    return values
  }
}
