import NibbleTensor
import Testing

@Suite struct FloatRowsTests {
  private static let shapes = [(1, 1), (3, 31), (70, 33), (65, 64), (33, 127), (2, 200)]

  @Test(arguments: shapes)
  func columnStatisticsAreSumsAndExtremes(_ n: Int, _ k: Int) {
    let values = correlated(tokens: n, channels: k, seed: UInt64(k))
    let whole = FloatRows(values, columns: k).columnStatistics(on: oneThread)
    var pieces = ColumnStatistics(channels: k)
    #expect(pieces.peaks == [Float](repeating: 0, count: k))
    let split = n / 2
    pieces.add(Array(values[(split * k)...]), on: Compute(threads: 3, precision: .f32))
    if split > 0 { pieces.add(Array(values[..<(split * k)]), on: oneThread) }
    for statistics in [whole, pieces] {
      for channel in 0..<k {
        let column = stride(from: channel, to: n * k, by: k).map { values[$0] }
        #expect(statistics.low[channel] == column.min())
        #expect(statistics.high[channel] == column.max())
        #expect(statistics.peaks[channel] == column.map(abs).max())
        // Float sums of 32 tokens, doubles of those.
        let magnitude = column.reduce(0.0) { $0 + Double(abs($1)) }
        let energy = column.reduce(0.0) { $0 + Double($1) * Double($1) }
        #expect(abs(statistics.magnitude[channel] - magnitude) <= 4e-6 * magnitude)
        #expect(abs(statistics.energy[channel] - energy) <= 4e-6 * energy)
      }
    }
    let three = FloatRows(values, columns: k).columnStatistics(
      on: Compute(threads: 3, precision: .f32))
    #expect(three == whole)
  }

  @Test func dividedStatisticsAreThoseOfTheDividedActivation() {
    let (n, k) = (40, 33)
    let values = correlated(tokens: n, channels: k, seed: 2)
    // Powers of two divide exactly, so that every bit is known.
    let factors = (0..<k).map { Float(sign: .plus, exponent: $0 % 9 - 4, significand: 1) }
    let divided = FloatRows(values, columns: k).columnStatistics(on: oneThread).divided(by: factors)
    let expected = FloatRows(values.indices.map { values[$0] / factors[$0 % k] }, columns: k)
      .columnStatistics(on: oneThread)
    #expect(divided == expected)
  }

  @Test(arguments: shapes)
  func rowsAndColumnsAreScaled(_ n: Int, _ k: Int) {
    let values = gaussian(n * k, seed: 1)
    let (down, across) = (uniform(n, seed: 2), uniform(k, seed: 3))
    var rows = FloatRows(values, columns: k)
    #expect(rows.rows == n && rows.columns == k)
    #expect(
      rows.rowPeaks() == (0..<n).map { values[$0 * k..<($0 + 1) * k].map(abs).max() ?? 0 })
    rows.scaleColumns(by: across, on: oneThread)
    #expect(rows.values == values.indices.map { values[$0] * across[$0 % k] })
    rows.scaleRows(by: down)
    #expect(rows.values == values.indices.map { values[$0] * across[$0 % k] * down[$0 / k] })
    let before = rows.values
    rows.add(FloatRows(values, columns: k), times: -0.5, on: oneThread)
    for i in values.indices { #expect(abs(rows.values[i] - (before[i] - values[i] / 2)) < 1e-6) }
  }

  @Test(arguments: [(1, 1), (3, 16), (5, 41)])
  func roundingEnergyIsThatOfRowsRoundedByThemselves(_ n: Int, _ k: Int) {
    var random = SplitMix(state: UInt64(k))
    let values = (0..<n * k).map { $0 / k == 1 ? 0 : Float.random(in: -2...2, using: &random) }
    let factors = (0..<k).map { _ in Float.random(in: 0.5...2, using: &random) }
    let weights = (0..<k).map { _ in Float.random(in: 0...3, using: &random) }
    var expected = 0.0
    for row in 0..<n {
      let scaled = (0..<k).map { Double(values[row * k + $0] * factors[$0]) }
      let step = (scaled.map(abs).max() ?? 0) / 7
      for (c, x) in scaled.enumerated() where step > 0 {
        let error = x - (x / step).rounded(.toNearestOrEven) * step
        expected += error * error * Double(weights[c])
      }
    }
    let found = FloatRows(values, columns: k).roundingEnergy(
      scaledBy: factors, weights: weights, largest: 7)
    #expect(abs(found - expected) <= 1e-4 * expected + 1e-9, "\(found), \(expected)")
  }

  @Test(arguments: [(31, 31, 31), (70, 64, 16), (5, 72, 32), (3, 200, 128), (1, 1, 1)])
  func squaredPeaksAreSummedOverTheRowsOfEachGroup(_ n: Int, _ k: Int, _ span: Int) {
    let values = gaussian(n * k, seed: 4)
    let factors = uniform(k, seed: 5).map { abs($0) + 0.1 }
    let peaks = FloatRows(values, columns: k).squaredPeaks(scaledBy: factors, span: span)
    let expected = stride(from: 0, to: k, by: span).map { start in
      (0..<n).reduce(0.0) { sum, row in
        let peak =
          (start..<min(k, start + span)).map { abs(values[row * k + $0]) * factors[$0] }.max() ?? 0
        return sum + Double(peak) * Double(peak)
      }
    }
    #expect(peaks.count == expected.count)
    for (a, b) in zip(peaks, expected) { #expect(abs(a - b) <= 1e-12 * b) }
  }

  @Test(arguments: [(1, 1), (33, 31), (5, 130)])
  func energyIsTheQuadraticForm(_ n: Int, _ k: Int) {
    let x = correlated(tokens: 2 * k, channels: k, seed: 6)
    var gram = GramMatrix(channels: k)
    gram.add(x, on: oneThread)
    gram.finish(on: oneThread)
    let rows = gaussian(n * k, seed: 7)
    let energy = FloatRows(rows, columns: k).energy(
      under: PreparedWeight(gram.weight), on: oneThread)
    let exact = DoubleMatrix(gram.values, columns: k).energy(of: rows.map(Double.init))
    #expect(abs(energy - exact) <= 1e-5 * exact)
  }

  @Test(arguments: [1, 31, 48])
  func roundingErrorsAreWeighedByChannel(_ k: Int) {
    let n = 9
    let values = gaussian(n * k, seed: 8)
    let importance = uniform(k, seed: 9).map(abs)
    let rows = FloatRows(values, columns: k)
    for (scale, zero) in [(0.02, 0), (0.013, -37), (0.5, 127), (1e-3, -128)] as [(Float, Int32)] {
      let error = rows.roundingError(
        InputRange(scale: scale, zero: zero), .int8, importance: importance, on: oneThread)
      var expected = 0.0
      for i in values.indices {
        let code = (values[i] / scale).rounded(.toNearestOrEven) + Float(zero)
        let back = (min(max(code, -128), 127) - Float(zero)) * scale
        expected += Double(importance[i % k]) * Double(back - values[i]) * Double(back - values[i])
      }
      // The difference of two near floats, squared.
      #expect(abs(error - expected) <= 1e-4 * expected, "\(scale), \(zero)")
    }
    let scale: Float = 1.0 / 128
    let error = rows.roundingError(
      InputRange(scale: scale), .e4m3, importance: importance, on: oneThread)
    let expected = values.indices.reduce(0.0) { sum, i in
      let back = Double(E4M3.nearest(values[i] / scale).value * scale)
      return sum + Double(importance[i % k]) * (back - Double(values[i]))
        * (back - Double(values[i]))
    }
    #expect(abs(error - expected) <= 1e-4 * expected)
  }
}

/// FP8 E4M3FN by its table: 1 sign, 4 exponent bits with bias 7, 3 mantissa bits, largest value 448.
enum E4M3 {
  /// The values of codes 0...126, ascending.
  static let values: [Float] = (0...126).map { code in
    let (exponent, mantissa) = (code >> 3, Float(code & 7) / 8)
    return exponent == 0
      ? mantissa * 0x1p-6
      : (1 + mantissa) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
  }

  /// The nearest code, the even one on ties, clamped to 448.
  static func nearest(_ x: Float) -> (code: Int, value: Float) {
    let size = abs(x)
    var best = 0
    for (code, value) in values.enumerated() {
      let (new, old) = (abs(value - size), abs(values[best] - size))
      if new < old || new == old && code.isMultiple(of: 2) { best = code }
    }
    return (best, x < 0 ? -values[best] : values[best])
  }
}
