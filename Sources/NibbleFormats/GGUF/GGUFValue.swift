/// A value of GGUF metadata, in the type the file gives it.
public enum GGUFValue: Hashable, Sendable {
  case u8(UInt8)
  case i8(Int8)
  case u16(UInt16)
  case i16(Int16)
  case u32(UInt32)
  case i32(Int32)
  case u64(UInt64)
  case i64(Int64)
  case f32(Float)
  case f64(Double)
  case bool(Bool)
  /// Bytes, which a tokenizer may have cut within a UTF-8 sequence.
  case string([UInt8])
  case array(GGUFArray)
}

extension GGUFValue {
  /// An integer of any width that fits `Int`.
  public var int: Int? {
    switch self {
    case .u8(let value): Int(value)
    case .i8(let value): Int(value)
    case .u16(let value): Int(value)
    case .i16(let value): Int(value)
    case .u32(let value): Int(value)
    case .i32(let value): Int(value)
    case .u64(let value): Int(exactly: value)
    case .i64(let value): Int(exactly: value)
    default: nil
    }
  }

  /// A floating-point number, rounded to the nearest `Float`.
  public var float: Float? {
    switch self {
    case .f32(let value): value
    case .f64(let value): Float(value)
    default: nil
    }
  }

  public var bool: Bool? {
    if case .bool(let value) = self { value } else { nil }
  }

  /// The bytes of a string.
  public var bytes: [UInt8]? {
    if case .string(let value) = self { value } else { nil }
  }

  /// A string, when it is valid UTF-8.
  public var string: String? { bytes.flatMap { String(validating: $0, as: UTF8.self) } }

  public var array: GGUFArray? {
    if case .array(let value) = self { value } else { nil }
  }

  public var strings: [[UInt8]]? { array?.strings }
  public var floats: [Float]? { array?.floats }
  public var ints: [Int]? { array?.ints }
}
