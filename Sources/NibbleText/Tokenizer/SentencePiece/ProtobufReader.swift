/// Reads the fields of a protobuf message one after another, each length checked before it is used.
///
/// Source: Protocol Buffers, "Encoding". Groups, which are deprecated, are refused.
struct ProtobufReader {
  enum Value {
    case varint(UInt64)
    case fixed64(UInt64)
    /// Text, bytes or a message, as a range of the file.
    case bytes(Range<Int>)
    case fixed32(UInt32)
  }

  struct Field {
    var number: Int
    var value: Value
    /// Offset of the field, for errors.
    var at: Int
  }

  let file: String
  let bytes: [UInt8]
  private var at: Int
  private let end: Int

  /// - Parameters:
  ///   - file: the file's name in errors.
  ///   - range: the message's range in `bytes`; nil for all of them.
  init(file: String, _ bytes: [UInt8], _ range: Range<Int>? = nil) {
    self.file = file
    self.bytes = bytes
    at = range?.lowerBound ?? 0
    end = range?.upperBound ?? bytes.count
  }

  func bad(_ at: Int, _ reason: String) -> TokenizerError {
    .badFile(file, reason: "byte \(at) is no part of a SentencePiece model: \(reason)")
  }

  /// The next field; nil at the end.
  mutating func next() throws(TokenizerError) -> Field? {
    guard at < end else { return nil }
    let start = at
    let key = try varint()
    guard key >> 3 > 0, key >> 3 < 1 << 29 else { throw bad(start, "field \(key >> 3)") }
    let value: Value
    switch key & 7 {
    case 0: value = .varint(try varint())
    case 1: value = .fixed64(try fixed(8))
    case 2:
      let length = try varint()
      guard length <= UInt64(end - at) else {
        throw bad(start, "\(length) bytes are said to follow, and \(end - at) do")
      }
      value = .bytes(at..<at + Int(length))
      at += Int(length)
    case 5: value = .fixed32(UInt32(truncatingIfNeeded: try fixed(4)))
    case let wire: throw bad(start, "wire type \(wire)")
    }
    return Field(number: Int(key >> 3), value: value, at: start)
  }

  private mutating func varint() throws(TokenizerError) -> UInt64 {
    let start = at
    var value: UInt64 = 0
    for shift in stride(from: 0, to: 64, by: 7) {
      guard at < end else { throw bad(start, "a number is cut off") }
      let byte = bytes[at]
      at += 1
      guard shift < 63 || byte <= 1 else { throw bad(start, "a number above 64 bits") }
      value |= UInt64(byte & 0x7F) << UInt64(shift)
      if byte < 0x80 { return value }
    }
    throw bad(start, "a number above 64 bits")
  }

  private mutating func fixed(_ count: Int) throws(TokenizerError) -> UInt64 {
    guard end - at >= count else { throw bad(at, "a number is cut off") }
    defer { at += count }
    return (0..<count).reduce(0) { $0 | UInt64(bytes[at + $1]) << UInt64(8 * $1) }
  }

  func text(_ field: Field) throws(TokenizerError) -> String {
    let range = try range(field)
    guard let text = String(validating: bytes[range], as: UTF8.self) else {
      throw bad(field.at, "field \(field.number) is not valid UTF-8")
    }
    return text
  }

  func range(_ field: Field) throws(TokenizerError) -> Range<Int> {
    guard case .bytes(let range) = field.value else { throw wrongType(field) }
    return range
  }

  func float(_ field: Field) throws(TokenizerError) -> Float {
    guard case .fixed32(let bits) = field.value else { throw wrongType(field) }
    let value = Float(bitPattern: bits)
    guard value.isFinite else { throw bad(field.at, "a score is infinite or not a number") }
    return value
  }

  func flag(_ field: Field) throws(TokenizerError) -> Bool {
    guard case .varint(let value) = field.value else { throw wrongType(field) }
    return value != 0
  }

  /// An `int32`, whose negative values are stored as 64 bits.
  func integer(_ field: Field) throws(TokenizerError) -> Int {
    guard case .varint(let value) = field.value else { throw wrongType(field) }
    guard let integer = Int32(exactly: Int64(bitPattern: value)) else {
      throw bad(field.at, "field \(field.number) is above 32 bits")
    }
    return Int(integer)
  }

  private func wrongType(_ field: Field) -> TokenizerError {
    bad(field.at, "field \(field.number) has a type of its own")
  }
}
