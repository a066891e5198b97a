import CNibble

/// How the range that a scale covers is chosen.
public enum ScaleSearch: Hashable, Sendable, Codable {
  /// Minimum and maximum: nothing is clipped.
  case extremes
  /// Both extremes multiplied by `1, 1 - 1/50, ...`, `steps` candidates in all. The candidate with
  /// the least `Σ importance · (w - ŵ)²` wins, the first on ties.
  case shrink(steps: Int)
  /// Clipping at `absmax · (1 - i/20)`, i in 0..<10. The candidate with the least squared output
  /// error of the group, `d H dᵀ` with `d = w - ŵ`, wins. Source: AWQ, arXiv 2306.00978,
  /// `auto_clip`.
  case clip
  /// Scales that are stored as codes: every code near that of the extremes. The one with the least `Σ
  /// importance · (w - ŵ)²` wins, all importances 1 without statistics.
  case codes
}

/// How a weight is quantized: its scheme and how its scales are found.
public struct WeightRounding: Hashable, Sendable {
  public var scheme: WeightScheme
  /// Format to which scales are rounded before codes are computed.
  public var scaleFormat: FloatFormat
  public var search: ScaleSearch
  /// Largest magnitude of all weights that share a scale of the whole weight
  /// (``WeightScheme/hasTensorScale``); 0: this weight's own.
  public var sharedPeak: Float

  public init(
    scheme: WeightScheme, scaleFormat: FloatFormat, search: ScaleSearch, sharedPeak: Float = 0
  ) {
    self.scheme = scheme
    self.scaleFormat = scaleFormat
    self.search = search
    self.sharedPeak = sharedPeak
  }
}

/// Finds the scale of a group of values.
struct ScaleFinder {
  let scheme: WeightScheme
  let scaleFormat: FloatFormat
  let search: ScaleSearch
  /// What E4M3 scales are divided by; 1 for other scales.
  let divisor: Float

  /// - Parameter peak: largest magnitude of the weight; called for E4M3 scales only.
  init(_ rounding: WeightRounding, peak: () -> Float) {
    (scheme, scaleFormat, search) = (rounding.scheme, rounding.scaleFormat, rounding.search)
    divisor =
      scheme.format.scales == .e4m3
      ? CodedScales.divisor(
        peak: rounding.sharedPeak > 0 ? rounding.sharedPeak : peak(),
        largest: scheme.format.numbers.largest) : 1
  }

  /// A scale that is stored as a code.
  ///
  /// - Parameters:
  ///   - peak: largest magnitude of the values.
  ///   - importance: `[count]`; nil stands for 1.
  func codedScale(
    _ w: UnsafePointer<Float>, _ count: Int, peak: Float,
    importance: UnsafePointer<Float>? = nil
  ) -> Float {
    guard case .minifloat(let format) = scheme.format.numbers else {
      preconditionFailure("\(scheme) has no coded scales")
    }
    let scales = CodedScales(scheme.format.scales, divisor: divisor)
    guard search != .extremes, peak > 0 else {
      return scales.scale(peak: peak, largest: format.largest)
    }
    var loop = format.loop
    return scales.best(peak: peak, largest: format.largest) { scale in
      unsafe nibble_grid_error_minifloat(w, importance, count, scale, &loop)
    }
  }

  var lowestCode: Int32 { -(1 << (Int32(scheme.format.numbers.bits) - 1)) }
  var highestCode: Int32 { (1 << (Int32(scheme.format.numbers.bits) - 1)) - 1 }

  /// - Parameters:
  ///   - w: `[count]`, finite.
  ///   - importance: `[count]`, for `shrink`.
  ///   - moments: `[count, count]` with rows of `stride`, for `clip`.
  func find(
    _ w: UnsafePointer<Float>, _ count: Int, importance: UnsafePointer<Float>?,
    moments: UnsafePointer<Float>?, stride: Int
  ) -> (scale: Float, zero: Int32) {
    var (low, high): (Float, Float) = (0, 0)
    unsafe nibble_minmax(w, count, &low, &high)
    low = min(low, 0)
    high = max(high, 0)
    if scheme.format.scales != .float {
      return (unsafe codedScale(w, count, peak: max(-low, high), importance: importance), 0)
    }
    let widest = grid(low, high)
    switch search {
    case .extremes, .codes: return widest
    case .shrink(let steps):
      guard let importance = unsafe importance else { return widest }
      var best = widest
      var least = unsafe error(w, count, widest, importance)
      for step in 1..<max(1, steps) {
        let share = 1 - Float(step) / 50
        let candidate = grid(low * share, high * share)
        let error = unsafe error(w, count, candidate, importance)
        if error < least { (best, least) = (candidate, error) }
      }
      return best
    case .clip:
      guard let moments = unsafe moments, case .integer = scheme.format.numbers else {
        return widest
      }
      let peak = max(-low, high)
      var best = widest
      var least = Float.infinity
      unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { errors in
        for step in 0..<10 {
          let bound = peak * (1 - Float(step) / 20)
          let candidate = grid(max(low, -bound), min(high, bound))
          let error = unsafe nibble_grid_energy_int(
            w, moments, stride, count, candidate.scale, candidate.zero, lowestCode, highestCode,
            errors.baseAddress!)
          if error < least { (best, least) = (candidate, error) }
        }
      }
      return best
    }
  }

  private func error(
    _ w: UnsafePointer<Float>, _ count: Int, _ grid: (scale: Float, zero: Int32),
    _ importance: UnsafePointer<Float>
  ) -> Float {
    switch scheme.format.numbers {
    case .minifloat(.e4m3):
      return unsafe nibble_grid_error_e4m3(w, importance, count, grid.scale)
    case .minifloat(let format):
      var loop = format.loop
      return unsafe nibble_grid_error_minifloat(w, importance, count, grid.scale, &loop)
    case .integer:
      return unsafe nibble_grid_error_int(
        w, importance, count, grid.scale, grid.zero, lowestCode, highestCode)
    }
  }

  /// The scale and zero point of a range that contains 0.
  private func grid(_ low: Float, _ high: Float) -> (scale: Float, zero: Int32) {
    guard scheme.hasZeroPoints else {
      return (
        RowRounding.scale(max(-low, high) / scheme.largestCode, scaleFormat), 0
      )
    }
    let least = Float(lowestCode)
    // Halved first, so that the width of the widest range stays finite.
    let scale = RowRounding.scale(
      (high / 2 - low / 2) / Float((1 << scheme.format.numbers.bits) - 1) * 2, scaleFormat)
    let zero = (least - low / scale).rounded(.toNearestOrEven)
    return (scale, Int32(min(max(zero, least), Float(highestCode))))
  }
}
