import CNibble

/// The scales that a weight can have when they are stored as codes.
///
/// Power of two: `2^e` with e in -126...127, so that no scale is subnormal. E4M3: `s / divisor` with s
/// above zero, `divisor = 448 · largest / absmax` of the weight. `largest` is the largest number of
/// the weight's format. A group of zeros has the scale 1, or 1 / divisor.
///
/// Sources: OCP Microscaling Formats 1.0, section 6.3; NVFP4 as in compressed-tensors 0.20.
struct CodedScales {
  private let format: WeightScheme.ScaleFormat
  private let divisor: Float

  init(_ format: WeightScheme.ScaleFormat, divisor: Float) {
    self.format = format
    self.divisor = divisor
  }

  /// What the E4M3 scales of a weight are divided by.
  ///
  /// - Parameter peak: largest magnitude of the weight.
  static func divisor(peak: Float, largest: Float) -> Float {
    guard peak > 0, peak.isFinite else { return 1 }
    // Larger divisors would make the smallest scale, 2^-9 / divisor, subnormal.
    return min(Minifloat.e4m3.largest * largest / peak, 0x1p117)
  }

  /// The scale of a group by its largest magnitude alone. Power of two: `2^(floor(log2 peak) -
  /// floor(log2 largest))`, which clips by up to a quarter. E4M3: `peak / largest`, rounded.
  func scale(peak: Float, largest: Float) -> Float {
    guard peak > 0 else { return 1 / divisor }
    return format == .powerOfTwo
      ? Self.power(Self.exponent(peak: peak, largest: largest))
      : value(max(1, Self.code(min(divisor * (peak / largest), Minifloat.e4m3.largest))))
  }

  /// The scale with the least error, that of the largest magnitude alone on ties. Power of two: it or
  /// its double. E4M3: all from half of it to 1.85 times it.
  ///
  /// - Parameter peak: above zero.
  func best(peak: Float, largest: Float, error: (_ scale: Float) -> Float) -> Float {
    var best = scale(peak: peak, largest: largest)
    var least = error(best)
    func consider(_ scale: Float) {
      let error = error(scale)
      if error < least { (best, least) = (scale, error) }
    }
    guard format == .e4m3 else {
      consider(Self.power(Self.exponent(peak: peak, largest: largest) + 1))
      return best
    }
    let base = best * divisor
    var code = max(1, Self.code(0.5 * base))
    while code <= Self.lastCode, Self.numbers[Int(code)] <= 1.85 * base {
      if Self.numbers[Int(code)] >= 0.5 * base { consider(value(code)) }
      code += 1
    }
    return best
  }

  private static func exponent(peak: Float, largest: Float) -> Int {
    Int(peak.exponent) - Int(largest.exponent)
  }

  private static func power(_ exponent: Int) -> Float {
    Float(sign: .plus, exponent: min(max(exponent, -126), 127), significand: 1)
  }

  private func value(_ code: UInt8) -> Float { Self.numbers[Int(code)] / divisor }

  /// The code of 448; the next is not a number.
  private static let lastCode: UInt8 = 0x7E
  private static let numbers = Minifloat.e4m3.values

  fileprivate static func code(_ value: Float) -> UInt8 {
    var (value, code): (Float, UInt8) = (value, 0)
    unsafe nibble_f32_to_e4m3(&value, &code, 1)
    return code
  }
}

extension QuantizedMatrix {
  /// The bytes of scales that are stored as codes: E8M0, or E4M3.
  public var scaleCodes: [UInt8] {
    switch scheme.format.scales {
    case .float: preconditionFailure("\(scheme) has no coded scales")
    case .powerOfTwo: scales.map { UInt8(Int($0.exponent) + 127) }
    case .e4m3: scales.map { CodedScales.code($0 * scaleDivisor) }
    }
  }
}
