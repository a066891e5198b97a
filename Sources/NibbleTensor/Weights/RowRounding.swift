import CNibble

/// Rounds one row of a weight, group by group.
struct RowRounding {
  let scheme: WeightScheme
  let columns: Int
  /// The scale of a whole tensor; nil when each group finds its own.
  let sharedScale: Float?
  let scaleFormat: FloatFormat

  /// Bytes of one row of codes.
  var codeBytes: Int { columns * scheme.bits / 8 }

  /// Returns the index of the first value of a group that is not finite, or nil.
  ///
  /// - Parameters:
  ///   - x: `[columns]`.
  ///   - codes: `codeBytes`, overwritten.
  ///   - scales: one a group, overwritten; nil with a shared scale.
  ///   - zeros: one a group, overwritten; nil when symmetric.
  func round(
    _ x: UnsafePointer<Float>, into codes: UnsafeMutableRawPointer,
    scales: UnsafeMutablePointer<Float>?, zeros: UnsafeMutablePointer<Int8>?
  ) -> Int? {
    let span = scheme.span(inputs: columns)
    for group in 0..<columns / max(1, span) {
      let part = unsafe x + group * span
      let peak = unsafe nibble_absmax(part, span)
      guard peak.isFinite else {
        return group * span + ((0..<span).first { unsafe !part[$0].isFinite } ?? 0)
      }
      var zero: Int32 = 0
      var scale: Float
      if let sharedScale {
        scale = sharedScale
      } else if scheme.hasZeroPoints {
        (scale, zero) = unsafe Self.affine(part, span, scheme.bits, scaleFormat)
      } else {
        scale = Self.scale(peak / scheme.largestCode, scaleFormat)
      }
      if let scales = unsafe scales { unsafe scales[group] = scale }
      if let zeros = unsafe zeros { unsafe zeros[group] = Int8(zero) }
      unsafe Self.write(part, span, codes + group * span * scheme.bits / 8, scale, zero, scheme)
    }
    return nil
  }

  /// Writes the codes of `count` values that share a scale.
  static func write(
    _ x: UnsafePointer<Float>, _ count: Int, _ codes: UnsafeMutableRawPointer, _ scale: Float,
    _ zero: Int32, _ scheme: WeightScheme
  ) {
    switch scheme.format {
    case .e4m3:
      unsafe nibble_round_e4m3(x, codes.assumingMemoryBound(to: UInt8.self), count, scale)
    case .int(bits: 4, _):
      unsafe withUnsafeTemporaryAllocation(of: Int8.self, capacity: count) { wide in
        unsafe nibble_round_int(x, wide.baseAddress!, count, scale, zero, -8, 7)
        let bytes = unsafe codes.assumingMemoryBound(to: UInt8.self)
        for i in 0..<count / 2 {
          unsafe bytes[i] = UInt8(wide[2 * i] + 8) | UInt8(wide[2 * i + 1] + 8) << 4
        }
      }
    case .int:
      unsafe nibble_round_int(
        x, codes.assumingMemoryBound(to: Int8.self), count, scale, zero, -128, 127)
    }
  }

  /// The scale as it will be stored: never zero, subnormal or infinite.
  static func scale(_ exact: Float, _ format: FloatFormat) -> Float {
    guard exact > 0 else { return 1 }
    let smallest: Float = format == .f16 ? 0x1p-14 : .leastNormalMagnitude
    let largest: Float = format == .f16 ? 65504 : 0x1.fep127
    return format.round(min(max(exact, smallest), largest))
  }

  static func affine(
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
