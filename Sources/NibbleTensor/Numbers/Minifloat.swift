import CNibble

/// A floating-point format of at most eight bits: a sign, exponent bits and mantissa bits.
///
/// A code with exponent field e and mantissa field m stands for `2^(e - bias) · (1 + m / 2^M)`, or
/// `2^(1 - bias) · m / 2^M` for e = 0. Sources: OCP 8-bit Floating Point Specification 1.0 (E4M3,
/// E5M2); OCP Microscaling Formats 1.0 (E3M2, E2M3, E2M1); "FP8 Quantization: The Power of the
/// Exponent", arXiv 2208.09225 (E3M4, E2M5).
public struct Minifloat: Hashable, Sendable, Codable {
  public let exponentBits: Int
  public let mantissaBits: Int
  public let bias: Int
  public let ends: Ends

  /// What the largest codes stand for.
  public enum Ends: String, Hashable, Sendable, Codable {
    /// Numbers, as all others.
    case numbers
    /// The largest magnitude is not a number.
    case nan
    /// The largest exponent is infinity and not a number.
    case infinity
  }

  /// - Parameter bias: nil: `2^(exponentBits - 1) - 1`.
  /// - Throws: `InvalidMinifloat` unless there are 1 to 7 exponent bits, and 2 to 7 bits of both.
  public init(
    exponentBits: Int, mantissaBits: Int, bias: Int? = nil, ends: Ends = .numbers
  ) throws(InvalidMinifloat) {
    guard (1...7).contains(exponentBits), mantissaBits >= 0,
      (2...7).contains(exponentBits + mantissaBits), (-64...64).contains(bias ?? 0),
      ends != .infinity || exponentBits >= 2
    else { throw InvalidMinifloat(exponentBits: exponentBits, mantissaBits: mantissaBits) }
    self.init(exponentBits, mantissaBits, ends, bias: bias)
  }

  private init(_ exponentBits: Int, _ mantissaBits: Int, _ ends: Ends, bias: Int? = nil) {
    self.exponentBits = exponentBits
    self.mantissaBits = mantissaBits
    self.bias = bias ?? 1 << (exponentBits - 1) - 1
    self.ends = ends
  }

  public static let e5m2 = Minifloat(5, 2, .infinity)
  public static let e4m3 = Minifloat(4, 3, .nan)
  public static let e3m4 = Minifloat(3, 4, .numbers)
  public static let e2m5 = Minifloat(2, 5, .numbers)
  public static let e3m2 = Minifloat(3, 2, .numbers)
  public static let e2m3 = Minifloat(2, 3, .numbers)
  public static let e2m1 = Minifloat(2, 1, .numbers)

  /// The formats that have a name: "e4m3" and so on.
  public static let named = [e5m2, e4m3, e3m4, e2m5, e3m2, e2m3, e2m1]

  /// Bits of a code, with its sign.
  public var bits: Int { 1 + exponentBits + mantissaBits }

  /// The value of each code, `[2^bits]`; the sign is the highest bit.
  public var values: [Float] {
    let half = 1 << (bits - 1)
    return (0..<2 * half).map { code in
      let magnitude = magnitude(of: code % half)
      return code < half ? magnitude : -magnitude
    }
  }

  /// The format as the loops in C read it.
  var loop: nibble_minifloat {
    nibble_minifloat(
      bits: Int32(bits), mantissa_bits: Int32(mantissaBits), bias: Int32(bias), largest: largest)
  }

  /// The largest finite value.
  public var largest: Float {
    let count = 1 << (bits - 1)
    return switch ends {
    case .numbers: magnitude(of: count - 1)
    case .nan: magnitude(of: count - 2)
    case .infinity: magnitude(of: count - 1 << mantissaBits - 1)
    }
  }

  private func magnitude(of code: Int) -> Float {
    let exponent = code >> mantissaBits
    let mantissa = Float(code & (1 << mantissaBits - 1)) / Float(1 << mantissaBits)
    let isLast = exponent == 1 << exponentBits - 1
    switch ends {
    case .infinity where isLast: return mantissa == 0 ? .infinity : .nan
    case .nan where code == 1 << (bits - 1) - 1: return .nan
    default: break
    }
    return exponent == 0
      ? Float(sign: .plus, exponent: 1 - bias, significand: mantissa)
      : Float(sign: .plus, exponent: exponent - bias, significand: 1 + mantissa)
  }

  /// The nearest finite value, of two equally near ones that with the even code; the largest for
  /// all beyond it.
  ///
  /// - Parameter x: a number.
  public func nearest(_ x: Float) -> Float {
    let magnitude = abs(x)
    guard magnitude < largest else { return x < 0 ? -largest : largest }
    let exponent = magnitude > 0 ? max(Int(magnitude.exponent), 1 - bias) : 1 - bias
    let step = Float(sign: .plus, exponent: exponent - mantissaBits, significand: 1)
    let rounded = min((magnitude / step).rounded(.toNearestOrEven) * step, largest)
    return x < 0 ? -rounded : rounded
  }
}

/// Bits that make no minifloat.
public struct InvalidMinifloat: Error, Hashable, CustomStringConvertible {
  public let exponentBits: Int
  public let mantissaBits: Int

  public var description: String {
    "E\(exponentBits)M\(mantissaBits) is no format; use 1 to 7 exponent bits, and at most 7 bits "
      + "with the mantissa"
  }
}

extension Minifloat: CustomStringConvertible {
  public var description: String { "e\(exponentBits)m\(mantissaBits)" }
}
