import CNibble

/// Quantizes one row of a weight, group by group.
struct RowRounding {
  let scheme: WeightScheme
  /// Finds scales that are stored as codes.
  let finder: ScaleFinder
  let columns: Int
  let grid: ScaleGrid
  let scaleFormat: FloatFormat

  init(_ finder: ScaleFinder, rows: Int, columns: Int) {
    self.finder = finder
    self.columns = columns
    (scheme, scaleFormat) = (finder.scheme, finder.scaleFormat)
    grid = scheme.grid(outputs: rows, inputs: columns)
  }

  /// Whether several rows share a scale, which is then computed before any of them is rounded.
  var sharesScales: Bool {
    switch scheme.granularity {
    case .channel, .group: false
    case .tensor, .block, .rowGroups: true
    }
  }

  /// Bytes per row of codes.
  var codeBytes: Int { columns * scheme.bits / 8 }

  /// Raises the peak of each group to the largest magnitude in this row.
  ///
  /// - Parameters:
  ///   - x: `[columns]`.
  ///   - peaks: one per group.
  /// - Returns: the index of the first value of a group that is not finite, or nil.
  func measure(_ x: UnsafePointer<Float>, into peaks: UnsafeMutablePointer<Float>) -> Int? {
    for group in 0..<grid.perRow {
      let values = inputs(of: group)
      let peak = unsafe nibble_absmax(x + values.lowerBound, values.count)
      guard peak.isFinite else { return unsafe firstNonFinite(x, in: values) }
      unsafe peaks[group] = max(peaks[group], peak)
    }
    return nil
  }

  /// Rounds a row to codes.
  ///
  /// - Parameters:
  ///   - x: `[columns]`.
  ///   - codes: `codeBytes`, overwritten.
  ///   - scales: one per group; overwritten unless rows share scales.
  ///   - zeros: one per group, overwritten; nil when symmetric.
  /// - Returns: the index of the first value of a group that is not finite, or nil.
  func round(
    _ x: UnsafePointer<Float>, into codes: UnsafeMutableRawPointer,
    scales: UnsafeMutablePointer<Float>, zeros: UnsafeMutablePointer<Int8>?
  ) -> Int? {
    for group in 0..<grid.perRow {
      let values = inputs(of: group)
      let part = unsafe x + values.lowerBound
      var zero: Int32 = 0
      if !sharesScales {
        let peak = unsafe nibble_absmax(part, values.count)
        guard peak.isFinite else { return unsafe firstNonFinite(x, in: values) }
        if let zeros = unsafe zeros {
          let (scale, point) = unsafe Self.affine(
            part, values.count, scheme.format.numbers.bits, scaleFormat)
          unsafe scales[group] = scale
          unsafe zeros[group] = Int8(point)
          zero = point
        } else if scheme.format.scales != .float {
          unsafe scales[group] = finder.codedScale(part, values.count, peak: peak)
        } else {
          unsafe scales[group] = scale(peak: peak)
        }
      }
      unsafe Self.write(
        part, values.count, codes + values.lowerBound * scheme.bits / 8, scales[group], zero, scheme
      )
    }
    return nil
  }

  private func inputs(of group: Int) -> Range<Int> {
    group * grid.columns..<min(columns, (group + 1) * grid.columns)
  }

  private func firstNonFinite(_ x: UnsafePointer<Float>, in values: Range<Int>) -> Int {
    values.first { unsafe !x[$0].isFinite } ?? values.lowerBound
  }

  /// Writes the codes of `count` values that share a scale.
  static func write(
    _ x: UnsafePointer<Float>, _ count: Int, _ codes: UnsafeMutableRawPointer, _ scale: Float,
    _ zero: Int32, _ scheme: WeightScheme
  ) {
    let bytes = unsafe codes.assumingMemoryBound(to: UInt8.self)
    switch scheme.format.numbers {
    case .minifloat(.e4m3): unsafe nibble_round_e4m3(x, bytes, count, scale)
    case .minifloat(let format):
      var loop = format.loop
      guard scheme.bits == 4 else {
        unsafe nibble_round_minifloat(x, bytes, count, scale, &loop)
        return
      }
      unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: count) { wide in
        unsafe nibble_round_minifloat(x, wide.baseAddress!, count, scale, &loop)
        for i in 0..<count / 2 { unsafe bytes[i] = wide[2 * i] | wide[2 * i + 1] << 4 }
      }
    case .integer(let bits) where bits <= 4:
      let half: Int32 = 1 << (Int32(bits) - 1)
      unsafe withUnsafeTemporaryAllocation(of: Int8.self, capacity: count) { wide in
        unsafe nibble_round_int(x, wide.baseAddress!, count, scale, zero, -half, half - 1)
        for i in 0..<count / 2 {
          unsafe bytes[i] = UInt8(wide[2 * i] + 8) | UInt8(wide[2 * i + 1] + 8) << 4
        }
      }
    case .integer(let bits):
      let half: Int32 = 1 << (Int32(bits) - 1)
      unsafe nibble_round_int(
        x, codes.assumingMemoryBound(to: Int8.self), count, scale, zero, -half, half - 1)
    }
  }

  /// The symmetric scale for magnitudes up to `peak`.
  func scale(peak: Float) -> Float { Self.scale(peak / scheme.largestCode, scaleFormat) }

  /// The scale as it is stored: never zero, subnormal or infinite.
  static func scale(_ exact: Float, _ format: FloatFormat) -> Float {
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
    // Halved first, so that the width of the widest range stays finite.
    let scale = scale((high / 2 - low / 2) / Float((1 << bits) - 1) * 2, format)
    let zero = (least - low / scale).rounded(.toNearestOrEven)
    return (scale, Int32(min(max(zero, least), -least - 1)))
  }
}
