/// An array of GGUF metadata: all elements of one type, stored contiguously.
public enum GGUFArray: Hashable, Sendable {
  case u8([UInt8])
  case i8([Int8])
  case u16([UInt16])
  case i16([Int16])
  case u32([UInt32])
  case i32([Int32])
  case u64([UInt64])
  case i64([Int64])
  case f32([Float])
  case f64([Double])
  case bool([Bool])
  case string(GGUFStrings)
  case array([GGUFArray])

  public var count: Int {
    switch self {
    case .u8(let values): values.count
    case .i8(let values): values.count
    case .u16(let values): values.count
    case .i16(let values): values.count
    case .u32(let values): values.count
    case .i32(let values): values.count
    case .u64(let values): values.count
    case .i64(let values): values.count
    case .f32(let values): values.count
    case .f64(let values): values.count
    case .bool(let values): values.count
    case .string(let values): values.count
    case .array(let values): values.count
    }
  }

  public var strings: [[UInt8]]? {
    if case .string(let values) = self { values.map { Array($0) } } else { nil }
  }

  /// Floating-point numbers, each rounded to the nearest `Float`.
  public var floats: [Float]? {
    switch self {
    case .f32(let values): values
    case .f64(let values): values.map { Float($0) }
    default: nil
    }
  }

  /// Integers of any width, when every one fits `Int`.
  public var ints: [Int]? {
    switch self {
    case .u8(let values): values.map { Int($0) }
    case .i8(let values): values.map { Int($0) }
    case .u16(let values): values.map { Int($0) }
    case .i16(let values): values.map { Int($0) }
    case .u32(let values): values.map { Int($0) }
    case .i32(let values): values.map { Int($0) }
    case .u64(let values): values.allSatisfy { $0 <= Int.max } ? values.map { Int($0) } : nil
    case .i64(let values): values.map { Int($0) }
    default: nil
    }
  }
}

/// Many strings in one buffer: a vocabulary of 100,000 tokens is two allocations.
public struct GGUFStrings: RandomAccessCollection, Hashable, Sendable {
  private var bytes: [UInt8] = []
  /// `ends[i]` is where string `i` ends in `bytes`.
  private var ends: [Int] = []

  init() {}

  mutating func append(_ string: Span<UInt8>) {
    for index in string.indices { bytes.append(string[index]) }
    ends.append(bytes.count)
  }

  mutating func reserve(_ count: Int) { ends.reserveCapacity(count) }

  public var startIndex: Int { 0 }
  public var endIndex: Int { ends.count }

  public subscript(position: Int) -> ArraySlice<UInt8> {
    bytes[(position == 0 ? 0 : ends[position - 1])..<ends[position]]
  }
}
