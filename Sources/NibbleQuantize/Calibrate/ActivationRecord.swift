import NibbleTensor

/// Calibration statistics of one activation, as stored. The records of two sets of windows merge to
/// that of both, bit for bit, in any order.
struct ActivationRecord: Sendable, Hashable {
  /// Number of tokens in the uniform sample, and in the sample with the largest values.
  static let sampled = 512
  static let loudest = 32

  let channels: Int
  private(set) var tokens = 0
  /// Minimum and maximum of each channel, `[k]`; infinite when no token was seen.
  private(set) var low: [Float]
  private(set) var high: [Float]
  /// `Σ|x|` and `Σx²`, `[k]`.
  private(set) var magnitude: [OrderFreeSum]
  private(set) var energy: [OrderFreeSum]
  private(set) var sample: TokenSample
  private(set) var loudest: TokenSample

  init(channels: Int) {
    self.channels = channels
    low = [Float](repeating: .infinity, count: channels)
    high = [Float](repeating: -.infinity, count: channels)
    magnitude = [OrderFreeSum](repeating: OrderFreeSum(), count: channels)
    energy = magnitude
    sample = TokenSample(channels: channels, capacity: Self.sampled, keeps: .any)
    loudest = TokenSample(channels: channels, capacity: Self.loudest, keeps: .loudest)
  }

  /// Restores a stored record; nil when its parts are inconsistent.
  init?(
    tokens: Int, low: [Float], high: [Float], magnitude: [OrderFreeSum], energy: [OrderFreeSum],
    sample: TokenSample, loudest: TokenSample
  ) {
    let channels = low.count
    let isSound =
      tokens > 0 && channels > 0 && high.count == channels && magnitude.count == channels
      && energy.count == channels && sample.channels == channels && loudest.channels == channels
      && sample.count == min(tokens, Self.sampled) && loudest.count == min(tokens, Self.loudest)
      && zip(low, high).allSatisfy { $0.isFinite && $1.isFinite && $0 <= $1 }
      && energy.allSatisfy { $0.value >= 0 } && magnitude.allSatisfy { $0.value >= 0 }
    guard isSound else { return nil }
    self.channels = channels
    self.tokens = tokens
    self.low = low
    self.high = high
    self.magnitude = magnitude
    self.energy = energy
    self.sample = sample
    self.loudest = loudest
  }

  /// Adds the activation `[t, k]` of a whole window.
  ///
  /// - Parameter bound: the uniform sample skips tokens of a higher priority.
  mutating func add(
    _ x: [Float], window: WindowIdentity, samplingUpTo bound: UInt64 = .max, on compute: Compute
  ) {
    var columns = ColumnStatistics(channels: channels)
    columns.add(x, on: compute)
    tokens += x.count / channels
    for channel in 0..<channels {
      low[channel] = min(low[channel], columns.low[channel])
      high[channel] = max(high[channel], columns.high[channel])
      magnitude[channel].add(columns.magnitude[channel])
      energy[channel].add(columns.energy[channel])
    }
    sample.add(x, window: window, upTo: bound, on: compute)
    loudest.add(x, window: window, on: compute)
  }

  mutating func merge(_ other: ActivationRecord) {
    precondition(other.channels == channels, "\(other.channels) channels, not \(channels)")
    tokens += other.tokens
    for channel in 0..<channels {
      low[channel] = min(low[channel], other.low[channel])
      high[channel] = max(high[channel], other.high[channel])
      magnitude[channel].merge(other.magnitude[channel])
      energy[channel].merge(other.energy[channel])
    }
    sample.merge(other.sample)
    loudest.merge(other.loudest)
  }
}
