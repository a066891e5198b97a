import NibbleModel
import NibbleTensor

/// Statistics of the activation at one site, as steps use them.
struct ActivationStatistics: Sendable {
  let channels: Int
  let tokens: Int
  private(set) var columns: ColumnStatistics
  /// Activations `[r, k]` of a uniform sample of the tokens, and of the tokens with the largest
  /// values.
  private(set) var sample: FloatRows
  private(set) var loudest: FloatRows
  /// Σ x xᵀ, over all tokens or over the sample; nil when no step needs it.
  private(set) var moments: GramMatrix?
  /// Statistics per calibration window; empty when no range is computed from them.
  private(set) var windows: [ColumnStatistics]

  /// - Parameter moments: over all tokens; nil when they were not computed.
  init(
    _ record: ActivationRecord, moments: GramMatrix?, windows: [ColumnStatistics] = []
  ) {
    self.windows = windows
    channels = record.channels
    tokens = record.tokens
    columns = ColumnStatistics(
      low: record.low, high: record.high, magnitude: record.magnitude.map(\.value),
      energy: record.energy.map(\.value))
    sample = record.sample.values
    loudest = record.loudest.values
    self.moments = moments
  }

  /// Uses the second moments of the sample instead of those of all tokens.
  mutating func estimateMoments(on compute: Compute) {
    var moments = GramMatrix(channels: channels)
    moments.add(sample.values, on: compute)
    moments.finish(on: compute)
    self.moments = moments
  }

  /// Frees the moments when no further step needs them.
  mutating func forgetMoments() { moments = nil }

  /// Changes these to the statistics of the activation divided by `factors`.
  mutating func divide(by factors: [Float], on compute: Compute) {
    let inverse = factors.map { 1 / $0 }
    columns = columns.divided(by: factors)
    windows = windows.map { $0.divided(by: factors) }
    sample.scaleColumns(by: inverse, on: compute)
    loudest.scaleColumns(by: inverse, on: compute)
    moments = moments?.divided(by: factors)
  }

  /// The statistics of the activation minus `centers`. Sums and moments are estimated from the
  /// sample.
  func shifted(by centers: [Float], on compute: Compute) -> Self {
    var shifted = self
    shifted.sample.subtract(centers)
    shifted.loudest.subtract(centers)
    let sampled = shifted.sample.columnStatistics(on: compute)
    let share = Double(tokens) / Double(max(1, sample.rows))
    func moved(_ columns: ColumnStatistics) -> ColumnStatistics {
      columns.shifted(
        by: centers, magnitude: sampled.magnitude.map { $0 * share },
        energy: sampled.energy.map { $0 * share })
    }
    shifted.columns = moved(columns)
    shifted.windows = windows.map(moved)
    if moments != nil { shifted.estimateMoments(on: compute) }
    return shifted
  }

  /// Mean of |x|, and mean of x², of each channel.
  var meanMagnitude: [Float] { columns.magnitude.map { Float($0 / Double(max(1, tokens))) } }
  var meanSquare: [Double] { columns.energy.map { $0 / Double(max(1, tokens)) } }
}

/// Identifies a window of tokens in every run: a hash of its tokens.
public struct WindowIdentity: Sendable, Hashable {
  public let hash: UInt64

  public init(_ tokens: [Int]) {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for token in tokens {
      hash = Self.mixed(hash ^ UInt64(truncatingIfNeeded: token))
    }
    self.hash = hash
  }

  init(hash: UInt64) { self.hash = hash }

  /// A pseudo-random number for each position of the window. Source: splitmix64.
  func priority(_ position: Int) -> UInt64 {
    Self.mixed(hash &+ UInt64(truncatingIfNeeded: position) &* 0x9e37_79b9_7f4a_7c15)
  }

  private static func mixed(_ value: UInt64) -> UInt64 {
    var random = SplitMix64(state: value)
    return random.next()
  }
}
