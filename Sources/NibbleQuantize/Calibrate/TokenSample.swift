import NibbleTensor

/// Rows of an activation for some of its tokens: a uniform sample, or those with the largest
/// values.
///
/// The choice does not depend on the order of the windows, nor on how they were divided.
struct TokenSample: Sendable, Hashable {
  enum Choice: Sendable, Hashable {
    /// The tokens with the lowest priorities, which are pseudo-random.
    case any
    /// The tokens with the largest magnitudes.
    case loudest
  }

  /// Sort key of the kept tokens, ascending.
  private struct Key: Sendable, Hashable, Comparable {
    /// Negated largest magnitude, or 0 for a uniform sample.
    var quietness: Float
    var priority: UInt64

    static func < (a: Key, b: Key) -> Bool {
      (a.quietness, a.priority) < (b.quietness, b.priority)
    }
  }

  let channels: Int
  let capacity: Int
  private let keeps: Choice
  private var keys: [Key] = []
  private var rows: [[Float]] = []

  init(channels: Int, capacity: Int, keeps: Choice) {
    self.channels = channels
    self.capacity = capacity
    self.keeps = keeps
  }

  /// Restores a stored sample: rows with the priorities of their tokens.
  init(
    channels: Int, capacity: Int, keeps: Choice, rows: FloatRows, priorities: [UInt64]
  ) {
    self.init(channels: channels, capacity: capacity, keeps: keeps)
    let peaks = keeps == .loudest ? rows.rowPeaks() : []
    for (index, priority) in priorities.enumerated() {
      let key = Key(quietness: keeps == .loudest ? -peaks[index] : 0, priority: priority)
      insert(key, Array(rows.values[index * channels..<(index + 1) * channels]))
    }
  }

  var count: Int { keys.count }
  var priorities: [UInt64] { keys.map(\.priority) }

  /// Adds the activation `[t, channels]` of a whole window.
  ///
  /// - Parameter bound: for a uniform sample; tokens of a higher priority are skipped.
  mutating func add(
    _ x: [Float], window: WindowIdentity, upTo bound: UInt64 = .max, on compute: Compute
  ) {
    let peaks = keeps == .loudest ? FloatRows(x, columns: channels).rowPeaks(on: compute) : []
    for token in 0..<x.count / channels {
      let key = Key(
        quietness: keeps == .loudest ? -peaks[token] : 0, priority: window.priority(token))
      guard key.priority <= bound, isWanted(key) else { continue }
      insert(key, Array(x[token * channels..<(token + 1) * channels]))
    }
  }

  /// The highest priority in a uniform sample of all tokens of these windows. A caller that knows
  /// the windows beforehand can skip tokens that others would push out.
  static func bound(of windows: some Sequence<[Int]>, capacity: Int) -> UInt64 {
    let priorities = windows.flatMap { window in
      let identity = WindowIdentity(window)
      return window.indices.map(identity.priority)
    }
    return capacity < priorities.count ? priorities.sorted()[capacity - 1] : .max
  }

  mutating func merge(_ other: TokenSample) {
    for (key, row) in zip(other.keys, other.rows) where isWanted(key) { insert(key, row) }
  }

  /// `[rows, channels]`
  var values: FloatRows {
    var values: [Float] = []
    values.reserveCapacity(rows.count * channels)
    for row in rows { values += row }
    return FloatRows(values, columns: channels)
  }

  private func isWanted(_ key: Key) -> Bool {
    keys.count < capacity || key < keys[keys.count - 1]
  }

  private mutating func insert(_ key: Key, _ row: [Float]) {
    var range = 0..<keys.count
    while !range.isEmpty {
      let middle = range.lowerBound + range.count / 2
      range = keys[middle] < key ? middle + 1..<range.upperBound : range.lowerBound..<middle
    }
    keys.insert(key, at: range.lowerBound)
    rows.insert(row, at: range.lowerBound)
    if keys.count > capacity {
      keys.removeLast()
      rows.removeLast()
    }
  }
}
