extension FloatRows {
  /// `Σ (v - v̂)²` over all values, with v̂ rounded to the nearest number of a format, times a scale.
  ///
  /// - Parameter peak: the magnitude that the scale maps to the format's largest number; nil: each
  ///   row's own.
  public func roundingEnergy(
    _ format: NumberFormat, peak: Float? = nil, on compute: Compute
  ) -> Double {
    let k = columns
    let grain = 16
    var sums = [Double](repeating: 0, count: (rows + grain - 1) / grain)
    let peaks = peak == nil ? rowPeaks(on: compute) : []
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      unsafe values.withUnsafeBufferPointer { values in
        compute.ranges(of: rows, grain: grain) { part, _ in
          var sum = 0.0
          for row in part {
            let scale = (peak ?? peaks[row]) / format.largest
            guard scale > 0, scale.isFinite else { continue }
            for index in row * k..<(row + 1) * k {
              let error = unsafe values[index] - format.nearest(values[index] / scale) * scale
              sum += Double(error * error)
            }
          }
          unsafe sums[part.lowerBound / grain] = sum
        }
      }
    }
    return sums.reduce(0, +)
  }

  /// `Σ v²`.
  public var energy: Double { values.reduce(0.0) { $0 + Double($1) * Double($1) } }
}
