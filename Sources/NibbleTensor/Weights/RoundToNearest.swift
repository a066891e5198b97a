import CNibble

/// A value that is not a finite number where only finite numbers make sense.
public struct NonFinite: Error, Hashable, Sendable {
  /// Where, in the row-major matrix or the vector.
  public var index: Int

  public init(index: Int) { self.index = index }
}

extension QuantizedMatrix {
  /// Rounds a float weight `[n, k]` to codes, each value to the nearest.
  ///
  /// int symmetric: `scale = absmax / (2^bits - 1) * 2`, `code = clamp(x / scale)` rounded half to
  /// even, codes in `-2^(bits-1)...2^(bits-1)-1`. int asymmetric: the range is widened to hold 0,
  /// `scale = (max - min) / (2^bits - 1)`, `zero = round(-2^(bits-1) - min / scale)`. fp8:
  /// `scale = absmax / 448`. A group of zeros has scale 1. Codes are computed with the scale as it is
  /// stored. Source: compressed-tensors 0.20 `calculate_qparams`, in float instead of the weight's
  /// format.
  ///
  /// - Parameters:
  ///   - scaleFormat: what scales are rounded to before codes are computed.
  ///   - Throws: `NonFinite` at the first value that is infinite or not a number.
  public init(
    rounding weight: FloatMatrix, to scheme: WeightScheme, scaleFormat: FloatFormat,
    on compute: Compute
  ) throws(NonFinite) {
    let (n, k) = (weight.rows, weight.columns)
    let span = scheme.span(inputs: k)
    let groups = scheme.scalesPerRow(inputs: k)
    var shared: Float?
    if scheme.granularity == .tensor {
      var peak: Float = 0
      for row in 0..<n {
        let values = weight.row(row)
        peak = max(peak, try Self.absmax(values.span, base: row * k))
      }
      shared = Self.scale(peak / Self.largestCode(scheme), scaleFormat)
    }
    let codeBytes = k * scheme.bits / 8
    let scaleCount = scheme.granularity == .tensor ? 1 : n * groups
    var codes = [UInt8](repeating: 0, count: n * codeBytes)
    var scales = [Float](repeating: shared ?? 1, count: scaleCount)
    var zeros = [Int8](repeating: 0, count: scheme.hasZeroPoints ? scaleCount : 0)
    let grain = 32
    var failures = [Int?](repeating: nil, count: (n + grain - 1) / grain)
    unsafe codes.withUnsafeMutableBytes { codes in
      unsafe scales.withUnsafeMutableBufferPointer { scales in
        unsafe zeros.withUnsafeMutableBufferPointer { zeros in
          unsafe failures.withUnsafeMutableBufferPointer { failures in
            compute.ranges(of: n, grain: grain) { part, _ in
              let values = weight.values(of: part)
              unsafe values.withUnsafeBufferPointer { values in
                var row8 = [Int8](repeating: 0, count: scheme.bits == 4 ? span : 0)
                for row in part {
                  for group in 0..<groups {
                    let x = unsafe values.baseAddress! + (row - part.lowerBound) * k + group * span
                    let out =
                      unsafe codes.baseAddress! + row * codeBytes
                      + group * span * scheme.bits / 8
                    let peak = unsafe nibble_absmax(x, span)
                    guard peak.isFinite else {
                      let at = (0..<span).first { unsafe !x[$0].isFinite } ?? 0
                      if unsafe failures[part.lowerBound / grain] == nil {
                        unsafe failures[part.lowerBound / grain] = row * k + group * span + at
                      }
                      continue
                    }
                    let index = row * groups + group
                    var zero: Int32 = 0
                    var scale: Float
                    if let shared {
                      scale = shared
                    } else if scheme.hasZeroPoints {
                      (scale, zero) = unsafe Self.affine(x, span, scheme.bits, scaleFormat)
                      unsafe scales[index] = scale
                      unsafe zeros[index] = Int8(zero)
                    } else {
                      scale = Self.scale(peak / Self.largestCode(scheme), scaleFormat)
                      unsafe scales[index] = scale
                    }
                    switch scheme.format {
                    case .e4m3:
                      unsafe nibble_round_e4m3(
                        x, out.assumingMemoryBound(to: UInt8.self), span, scale)
                    case .int(bits: 4, _):
                      unsafe row8.withUnsafeMutableBufferPointer { row8 in
                        unsafe nibble_round_int(x, row8.baseAddress!, span, scale, zero, -8, 7)
                        let bytes = unsafe out.assumingMemoryBound(to: UInt8.self)
                        for i in 0..<span / 2 {
                          unsafe bytes[i] =
                            UInt8(row8[2 * i] + 8) | UInt8(row8[2 * i + 1] + 8) << 4
                        }
                      }
                    case .int:
                      unsafe nibble_round_int(
                        x, out.assumingMemoryBound(to: Int8.self), span, scale, zero, -128, 127)
                    }
                  }
                }
              }
            }
          }
        }
      }
    }
    if let index = failures.compactMap(\.self).min() { throw NonFinite(index: index) }
    self.init(
      scheme: scheme, rows: n, columns: k, codes: Bytes(codes), scales: scales, zeroPoints: zeros)
  }

  private static func absmax(_ values: Span<Float>, base: Int) throws(NonFinite) -> Float {
    let peak = unsafe values.withUnsafeBufferPointer {
      unsafe $0.baseAddress.map { unsafe nibble_absmax($0, values.count) } ?? 0
    }
    guard peak.isFinite else {
      throw NonFinite(index: base + (values.indices.first { !values[$0].isFinite } ?? 0))
    }
    return peak
  }

  /// Half the width of the code range: what the largest magnitude is divided by.
  private static func largestCode(_ scheme: WeightScheme) -> Float {
    switch scheme.format {
    case .int(let bits, _): Float((1 << bits) - 1) / 2
    case .e4m3: 448
    }
  }

  /// The scale as it will be stored: never zero, subnormal or infinite.
  private static func scale(_ exact: Float, _ format: FloatFormat) -> Float {
    guard exact > 0 else { return 1 }
    let smallest: Float = format == .f16 ? 0x1p-14 : .leastNormalMagnitude
    let largest: Float = format == .f16 ? 65504 : 0x1.fep127
    return format.round(min(max(exact, smallest), largest))
  }

  private static func affine(
    _ x: UnsafePointer<Float>, _ count: Int, _ bits: Int, _ format: FloatFormat
  ) -> (Float, Int32) {
    var (low, high): (Float, Float) = (0, 0)
    unsafe nibble_minmax(x, count, &low, &high)
    low = min(low, 0)
    high = max(high, 0)
    let least = -Float(1 << (bits - 1))
    // Halves first, so that the width of the widest range stays finite.
    let scale = scale((high / 2 - low / 2) / Float((1 << bits) - 1) * 2, format)
    let zero = (least - low / scale).rounded(.toNearestOrEven)
    return (scale, Int32(min(max(zero, least), -least - 1)))
  }
}
