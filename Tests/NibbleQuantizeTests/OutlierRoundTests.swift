import NibbleTensor
import Testing

@testable import NibbleQuantize

@Suite struct OutlierRoundTests {
  private static let compute = Compute(threads: 1, precision: .f32)

  private static func weight(_ n: Int, _ k: Int) -> FloatRows {
    var state: UInt64 = 7
    return FloatRows(
      (0..<n * k).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let uniform = Float(Int64(state >> 33)) / Float(1 << 30) - 1
        return uniform * uniform * uniform
      }, columns: k)
  }

  @Test(arguments: [
    OutlierRule.rowDeviation(3), .rowShare(0.05), .tensorShare(0.05), .rowShare(0.0001),
  ])
  func whatIsNoOutlierStaysWithinSeven(rule: OutlierRule) {
    let weight = Self.weight(31, 127)
    let (matrix, outliers) = OutlierRound(rule: rule).round(
      weight, scaleFormat: .f32, on: Self.compute)
    let codes = matrix.codes.array.map { Int8(bitPattern: $0) }
    #expect(codes.count { abs(Int($0)) > 7 } <= outliers)
    #expect(outliers < codes.count / 4)
    for (index, code) in codes.enumerated() where abs(Int(code)) < 127 {
      let scale = matrix.scales[index / 127]
      #expect(abs(weight.values[index] - Float(code) * scale) <= scale * 0.5001)
    }
  }

  /// The reference zeroes such rows.
  @Test func constantAndEmptyRowsKeepTheirValues() {
    var values = [Float](repeating: 0.25, count: 33)
    values += [Float](repeating: 0, count: 33)
    values += [0.5] + [Float](repeating: 0, count: 32)
    let (matrix, _) = OutlierRound(rule: .rowDeviation(3)).round(
      FloatRows(values, columns: 33), scaleFormat: .f32, on: Self.compute)
    let back = FloatRows(.quantized(matrix, inputs: nil), on: Self.compute).values
    for (found, expected) in zip(back, values) { #expect(abs(found - expected) < 1e-6) }
    #expect(matrix.scales.allSatisfy { $0 > 0 })
  }

  @Test func compensationIsNoLargerAndErrsLess() {
    let (n, k, t) = (128, 256, 512)
    let weight = Self.weight(n, k)
    // Inputs that go together, as real ones do.
    let noise = Self.weight(t, k).values
    let x = (0..<t * k).map { noise[$0] + 2 * noise[$0 / k * k + ($0 % k) / 32] }
    var moments = GramMatrix(channels: k)
    moments.add(x, on: Self.compute)
    moments.finish(on: Self.compute)
    var round = OutlierRound(rule: .rowDeviation(3))
    let (plain, _) = round.round(weight, scaleFormat: .f32, on: Self.compute)
    round.compensates = true
    let (better, _) = round.round(
      weight, factor: OutlierRound.Factor(moments, on: Self.compute), scaleFormat: .f32,
      on: Self.compute)
    func size(_ matrix: QuantizedMatrix) -> Int {
      CompressedCodes(
        compressing: matrix.codes, grid: FractalGrid(outputs: n, inputs: k), on: Self.compute
      ).data.count
    }
    func error(_ matrix: QuantizedMatrix) -> Double {
      let back = FloatRows(.quantized(matrix, inputs: nil), on: Self.compute).values
      var total = 0.0
      for row in 0..<n {
        let difference = (0..<k).map { back[row * k + $0] - weight.values[row * k + $0] }
        for token in 0..<t {
          var sum: Float = 0
          for column in 0..<k { sum += difference[column] * x[token * k + column] }
          total += Double(sum * sum)
        }
      }
      return total
    }
    #expect(size(better) <= size(plain))
    #expect(error(better) < error(plain) / 2)
  }
}

@Suite struct InputRangeMethodTests {
  /// msmodelslim: batches of (-1, 2), (-3, 1) and (-2, 5) give (-2, 2.6667).
  @Test func meanOfTheWindowsExtremes() throws {
    let compute = Compute(threads: 1, precision: .f32)
    var record = ActivationRecord(channels: 1)
    var windows: [ColumnStatistics] = []
    for values in [[Float(-1), 2], [-3, 1], [-2, 5]] {
      record.add(values, window: WindowIdentity([Int(values[1])]), on: compute)
      var columns = ColumnStatistics(channels: 1)
      columns.add(values, on: compute)
      windows.append(columns)
    }
    let statistics = ActivationStatistics(record, moments: nil, windows: windows)
    let range = try #require(InputRangeMethod(actMethod: 1)).range(
      of: statistics, scheme: .staticAsymmetric, weights: [], on: compute)
    let scale = (8.0 / 3 + 2) / 255
    #expect(abs(Double(range.scale) - scale) < 1e-8)
    #expect(range.zero == Int32((-128 + 2 / scale).rounded(.toNearestOrEven)))
  }

  @Test func aHistogramCutsOffWhatIsRare() {
    var histogram = ActivationHistogram(low: -1, high: 1000)
    histogram.add((0..<100_000).map { Float($0 % 1000) / 1000 }, weight: 1)
    histogram.add([-1, 1000], weight: 1)
    let whole = histogram.leastLoss()
    #expect(whole.low <= 0 && whole.low >= -1)
    // One value in 100,000 is the first quantile that torch's search takes off.
    #expect(whole.high < 10)
    var flat = ActivationHistogram(low: 0, high: 1)
    flat.add((0..<100_000).map { Float($0) / 100_000 }, weight: 1)
    let range = flat.leastLoss()
    #expect(range.low < 0.01 && range.high > 0.99)
  }
}
