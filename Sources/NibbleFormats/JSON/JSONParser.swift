/// Reasons why a text is not the expected JSON.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
  public var byte: Int
  public var reason: String

  public var description: String { "byte \(byte): \(reason)" }
}

extension JSON {
  /// Parses one JSON text (RFC 8259) of UTF-8 bytes. White space may surround it, nothing else.
  ///
  /// Duplicate keys, lone surrogates, invalid UTF-8, control characters inside strings, NaN and
  /// nesting deeper than 128 are refused. An integer outside Int64 becomes a Double.
  public init(parsing bytes: [UInt8]) throws(JSONError) {
    var parser = JSONParser(bytes: bytes)
    self = try parser.document()
  }

  public init(parsing text: String) throws(JSONError) { try self.init(parsing: Array(text.utf8)) }
}

private struct JSONParser {
  let bytes: [UInt8]
  var at = 0
  var depth = 0
  static let depthLimit = 128

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func document() throws(JSONError) -> JSON {
    skipSpace()
    let value = try value()
    skipSpace()
    guard at == bytes.count else { throw error("trailing characters") }
    return value
  }

  func error(_ reason: String) -> JSONError { JSONError(byte: at, reason: reason) }

  var next: UInt8? { at < bytes.count ? bytes[at] : nil }

  mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { at += 1 }
  }

  mutating func take(_ byte: UInt8) -> Bool {
    guard next == byte else { return false }
    at += 1
    return true
  }

  mutating func value() throws(JSONError) -> JSON {
    switch next {
    case UInt8(ascii: "{"): return try object()
    case UInt8(ascii: "["): return try array()
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case let byte? where byte == UInt8(ascii: "-") || (0x30...0x39).contains(byte):
      return try number()
    case nil: throw error("the text ends where a value should start")
    default: throw error("no value starts here")
    }
  }

  mutating func word(_ word: String, _ value: JSON) throws(JSONError) -> JSON {
    for byte in word.utf8 {
      guard take(byte) else { throw error("expected \(word)") }
    }
    return value
  }

  mutating func enter() throws(JSONError) {
    at += 1
    depth += 1
    guard depth <= Self.depthLimit else { throw error("nested deeper than \(Self.depthLimit)") }
    skipSpace()
  }

  mutating func object() throws(JSONError) -> JSON {
    try enter()
    defer { depth -= 1 }
    var object = JSONObject()
    if take(UInt8(ascii: "}")) { return .object(object) }
    while true {
      guard next == UInt8(ascii: "\"") else { throw error("expected a key in quotes") }
      let start = at
      let key = try string()
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw error("expected ':' after a key") }
      skipSpace()
      guard object.append(key, try value()) else {
        throw JSONError(byte: start, reason: "the key \"\(key)\" stands twice")
      }
      skipSpace()
      if take(UInt8(ascii: "}")) { return .object(object) }
      guard take(UInt8(ascii: ",")) else { throw error("expected ',' or '}'") }
      skipSpace()
    }
  }

  mutating func array() throws(JSONError) -> JSON {
    try enter()
    defer { depth -= 1 }
    var elements: [JSON] = []
    if take(UInt8(ascii: "]")) { return .array(elements) }
    while true {
      elements.append(try value())
      skipSpace()
      if take(UInt8(ascii: "]")) { return .array(elements) }
      guard take(UInt8(ascii: ",")) else { throw error("expected ',' or ']'") }
      skipSpace()
    }
  }

  mutating func number() throws(JSONError) -> JSON {
    let start = at
    var isInteger = true
    _ = take(UInt8(ascii: "-"))
    if !take(UInt8(ascii: "0")) { try digits() }
    if take(UInt8(ascii: ".")) {
      isInteger = false
      try digits()
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      isInteger = false
      at += 1
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      try digits()
    }
    let text = String(decoding: bytes[start..<at], as: UTF8.self)
    if isInteger, let value = Int64(text) { return .integer(value) }
    guard let value = Double(text), value.isFinite else {
      throw JSONError(byte: start, reason: "\(text) is outside a double's range")
    }
    return .number(value)
  }

  mutating func digits() throws(JSONError) {
    let start = at
    while let byte = next, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { at += 1 }
    guard at > start else { throw error("expected a digit") }
  }

  mutating func string() throws(JSONError) -> String {
    at += 1
    let start = at
    while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
      at += 1
    }
    var content = Array(bytes[start..<at])
    while let byte = next {
      switch byte {
      case UInt8(ascii: "\""):
        at += 1
        guard let string = String(validating: content, as: UTF8.self) else {
          throw JSONError(byte: start, reason: "a string is not valid UTF-8")
        }
        return string
      case UInt8(ascii: "\\"):
        at += 1
        content.append(contentsOf: try escape())
      case 0..<0x20: throw error("a control character stands unescaped in a string")
      default:
        content.append(byte)
        at += 1
      }
    }
    throw error("the text ends inside a string")
  }

  mutating func escape() throws(JSONError) -> [UInt8] {
    guard let byte = next else { throw error("the text ends inside a string") }
    at += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"):
      var code = try fourHexDigits()
      if (0xD800..<0xDC00).contains(code) {
        guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else {
          throw error("a lone surrogate")
        }
        let low = try fourHexDigits()
        guard (0xDC00..<0xE000).contains(low) else { throw error("a lone surrogate") }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw error("a lone surrogate") }
      return Array(String(Character(scalar)).utf8)
    default: throw error("no such escape")
    }
  }

  mutating func fourHexDigits() throws(JSONError) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue,
        byte < 0x80
      else { throw error("expected four hexadecimal digits") }
      code = code << 4 | UInt32(digit)
      at += 1
    }
    return code
  }
}
