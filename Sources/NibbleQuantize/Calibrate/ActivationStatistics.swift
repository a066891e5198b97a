import NibbleModel
import NibbleTensor

/// What calibration saw of the activation at one site.
struct ActivationStatistics: Sendable {
  let channels: Int
  private(set) var tokens = 0
  private(set) var columns: ColumnStatistics
  private(set) var sample: TokenSample
  /// The tokens with the largest values.
  private(set) var loudest: TokenSample
  /// Σ x xᵀ, when a step needs it.
  var moments: GramMatrix?

  init(channels: Int, sampled: Int, keepsMoments: Bool) {
    self.channels = channels
    columns = ColumnStatistics(channels: channels)
    sample = TokenSample(channels: channels, capacity: sampled, keeps: .any)
    loudest = TokenSample(channels: channels, capacity: 32, keeps: .loudest)
    moments = keepsMoments ? GramMatrix(channels: channels) : nil
  }

  /// Adds the activation of a whole window.
  mutating func add(_ x: [Float], window: WindowIdentity, on compute: Compute) {
    tokens += x.count / channels
    columns.add(x, on: compute)
    sample.add(x, window: window)
    loudest.add(x, window: window)
    moments?.add(x, on: compute)
  }

  /// The statistics of the activation divided by `factors`.
  func divided(by factors: [Float], on compute: Compute) -> Self {
    var divided = self
    divided.columns = columns.divided(by: factors)
    divided.sample.divide(by: factors)
    divided.loudest.divide(by: factors)
    divided.moments = moments?.divided(by: factors)
    return divided
  }

  /// Waits for nothing: to be called when every window was added.
  mutating func finish(on compute: Compute) { moments?.flush(on: compute) }

  /// Mean of |x| and of x² of each channel.
  var meanMagnitude: [Float] { columns.magnitude.map { Float($0 / Double(max(1, tokens))) } }
  var meanSquare: [Double] { columns.energy.map { $0 / Double(max(1, tokens)) } }
}

/// What names a window of tokens, the same in every run: a hash of its tokens.
struct WindowIdentity: Sendable, Hashable {
  let hash: UInt64

  init(_ tokens: [Int]) {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for token in tokens {
      hash = Self.mixed(hash ^ UInt64(truncatingIfNeeded: token))
    }
    self.hash = hash
  }

  /// A number that looks random for each position of the window. Source: splitmix64.
  func priority(_ position: Int) -> UInt64 {
    Self.mixed(hash &+ UInt64(truncatingIfNeeded: position) &* 0x9e37_79b9_7f4a_7c15)
  }

  private static func mixed(_ value: UInt64) -> UInt64 {
    var z = value &+ 0x9e37_79b9_7f4a_7c15
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
