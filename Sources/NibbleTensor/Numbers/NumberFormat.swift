/// The numbers that codes of a few bits stand for, before a scale multiplies them.
public enum NumberFormat: Hashable, Sendable, Codable {
  /// The whole numbers `-2^(bits-1)...2^(bits-1)-1`.
  case integer(bits: Int)
  case minifloat(Minifloat)

  public var bits: Int {
    switch self {
    case .integer(let bits): bits
    case .minifloat(let format): format.bits
    }
  }

  /// The number that a scale maps the largest magnitude to. For integers half a step above the
  /// largest code, so that both signs lose equally.
  public var largest: Float {
    switch self {
    case .integer(let bits): Float((1 << bits) - 1) / 2
    case .minifloat(let format): format.largest
    }
  }

  /// The nearest number of the format, of two equally near ones that with the even code.
  public func nearest(_ x: Float) -> Float {
    switch self {
    case .integer(let bits):
      let half = Float(1 << (bits - 1))
      return min(max(x.rounded(.toNearestOrEven), -half), half - 1)
    case .minifloat(let format): return format.nearest(x)
    }
  }

  /// The value of each code, `[2^bits]`, for kernels that look codes up; empty for formats that they
  /// decode by arithmetic: integers and E4M3.
  var table: [Float] {
    switch self {
    case .integer, .minifloat(.e4m3): []
    case .minifloat(let format): format.values
    }
  }

  /// Formats of eight bits: int8, E2M5, E3M4, E4M3, E5M2.
  public static let eightBits: [NumberFormat] = [
    .integer(bits: 8), .minifloat(.e2m5), .minifloat(.e3m4), .minifloat(.e4m3), .minifloat(.e5m2),
  ]

  /// Formats of four bits: int4, E2M1.
  public static let fourBits: [NumberFormat] = [.integer(bits: 4), .minifloat(.e2m1)]
}

extension NumberFormat: CustomStringConvertible {
  public var description: String {
    switch self {
    case .integer(let bits): "int\(bits)"
    case .minifloat(let format): "\(format)"
    }
  }
}
