import NibbleTensor

/// Calibration record of the KV cache: minimum and maximum of each channel of a block's keys, after
/// rotation, and of its values. Merges in any order, bit for bit.
struct KeyValueRecord: Sendable, Hashable {
  private(set) var tokens = 0
  /// `[keyHeads · d]`; empty until a token was seen.
  private(set) var keys = ChannelRange()
  private(set) var values = ChannelRange()

  /// Minimum and maximum of each channel.
  struct ChannelRange: Sendable, Hashable {
    var low: [Float] = []
    var high: [Float] = []

    /// Largest magnitude of each channel.
    var peaks: [Float] { zip(low, high).map { max(-$0, $1) } }

    mutating func include(_ other: ChannelRange) {
      guard !low.isEmpty else {
        self = other
        return
      }
      precondition(low.count == other.low.count, "\(other.low.count), not \(low.count)")
      for channel in low.indices {
        low[channel] = min(low[channel], other.low[channel])
        high[channel] = max(high[channel], other.high[channel])
      }
    }
  }

  init() {}

  /// Restores a stored record; nil when its parts are inconsistent.
  init?(tokens: Int, keys: ChannelRange, values: ChannelRange) {
    let ranges = [keys, values]
    guard tokens > 0, keys.low.count == values.low.count,
      ranges.allSatisfy({ range in
        !range.low.isEmpty && range.low.count == range.high.count
          && zip(range.low, range.high).allSatisfy { $0 <= $1 }
      })
    else { return nil }
    self.tokens = tokens
    self.keys = keys
    self.values = values
  }

  /// Adds keys and values `[t, width]` of a window.
  mutating func add(keys: [Float], values: [Float], width: Int, on compute: Compute) {
    func range(_ x: [Float]) -> ChannelRange {
      var columns = ColumnStatistics(channels: width)
      columns.add(x, on: compute)
      return ChannelRange(low: columns.low, high: columns.high)
    }
    tokens += keys.count / width
    self.keys.include(range(keys))
    self.values.include(range(values))
  }

  mutating func merge(_ other: KeyValueRecord) {
    tokens += other.tokens
    keys.include(other.keys)
    values.include(other.values)
  }

  /// The record with values divided by `factors`, one per channel, above zero.
  func dividingValues(by factors: [Float]) -> KeyValueRecord {
    var divided = self
    for channel in factors.indices where channel < values.low.count {
      divided.values.low[channel] /= factors[channel]
      divided.values.high[channel] /= factors[channel]
    }
    return divided
  }
}
