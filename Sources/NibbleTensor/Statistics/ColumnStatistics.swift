import CNibble

/// Minimum, maximum and sums of each channel of an activation.
public struct ColumnStatistics: Sendable, Hashable {
  /// Minimum of each channel, `[k]`.
  public private(set) var low: [Float]
  public private(set) var high: [Float]
  /// `Σ|x|` and `Σx²`, `[k]`.
  public private(set) var magnitude: [Double]
  public private(set) var energy: [Double]

  public init(channels: Int) {
    low = [Float](repeating: .infinity, count: channels)
    high = [Float](repeating: -.infinity, count: channels)
    magnitude = [Double](repeating: 0, count: channels)
    energy = magnitude
  }

  /// `max(-low, high)` of each channel, `[k]`; 0 when nothing was seen.
  public var peaks: [Float] { zip(low, high).map { max(-$0, $1, 0) } }

  public init(low: [Float], high: [Float], magnitude: [Double], energy: [Double]) {
    self.low = low
    self.high = high
    self.magnitude = magnitude
    self.energy = energy
  }

  /// The statistics of the activation divided by `factors`, above zero.
  public func divided(by factors: [Float]) -> Self {
    var divided = self
    for channel in factors.indices {
      let factor = factors[channel]
      divided.low[channel] /= factor
      divided.high[channel] /= factor
      divided.magnitude[channel] /= Double(factor)
      divided.energy[channel] /= Double(factor) * Double(factor)
    }
    return divided
  }

  /// The statistics of the activation minus `centers`. Its sums are given, as those of `self` do
  /// not determine them.
  public func shifted(by centers: [Float], magnitude: [Double], energy: [Double]) -> Self {
    ColumnStatistics(
      low: zip(low, centers).map(-), high: zip(high, centers).map(-), magnitude: magnitude,
      energy: energy)
  }

  /// Adds rows `[t, k]`.
  public mutating func add(_ x: [Float], on compute: Compute) {
    let k = low.count
    precondition(k > 0 && x.count.isMultiple(of: k), "\(x.count) values are not rows of \(k)")
    unsafe low.withUnsafeMutableBufferPointer { low in
      unsafe high.withUnsafeMutableBufferPointer { high in
        unsafe magnitude.withUnsafeMutableBufferPointer { magnitude in
          unsafe energy.withUnsafeMutableBufferPointer { energy in
            unsafe x.withUnsafeBufferPointer { x in
              compute.ranges(of: k, grain: 64) { part, _ in
                let first = part.lowerBound
                unsafe nibble_column_statistics(
                  x.baseAddress! + first, x.count / k, k, part.count, low.baseAddress! + first,
                  high.baseAddress! + first, magnitude.baseAddress! + first,
                  energy.baseAddress! + first)
              }
            }
          }
        }
      }
    }
  }
}
