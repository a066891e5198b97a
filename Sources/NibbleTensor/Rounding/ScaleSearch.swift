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
}

/// How a weight is quantized: its scheme and how its scales are found.
public struct WeightRounding: Hashable, Sendable {
  public var scheme: WeightScheme
  /// Format to which scales are rounded before codes are computed.
  public var scaleFormat: FloatFormat
  public var search: ScaleSearch

  public init(scheme: WeightScheme, scaleFormat: FloatFormat, search: ScaleSearch) {
    self.scheme = scheme
    self.scaleFormat = scaleFormat
    self.search = search
  }
}

/// Finds the scale of a group of values.
struct ScaleFinder {
  let scheme: WeightScheme
  let scaleFormat: FloatFormat
  let search: ScaleSearch

  init(_ rounding: WeightRounding) {
    (scheme, scaleFormat, search) = (rounding.scheme, rounding.scaleFormat, rounding.search)
  }

  var lowestCode: Int32 { -(1 << (Int32(scheme.bits) - 1)) }
  var highestCode: Int32 { (1 << (Int32(scheme.bits) - 1)) - 1 }

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
    let widest = grid(low, high)
    switch search {
    case .extremes: return widest
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
      guard let moments = unsafe moments, scheme.format != .e4m3 else { return widest }
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
    scheme.format == .e4m3
      ? unsafe nibble_grid_error_e4m3(w, importance, count, grid.scale)
      : unsafe nibble_grid_error_int(
        w, importance, count, grid.scale, grid.zero, lowestCode, highestCode)
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
      (high / 2 - low / 2) / Float((1 << scheme.bits) - 1) * 2, scaleFormat)
    let zero = (least - low / scale).rounded(.toNearestOrEven)
    return (scale, Int32(min(max(zero, least), Float(highestCode))))
  }
}
