import Testing

@testable import NibbleTensor

@Suite struct RefineTests {
  private let compute = Compute(threads: 1, precision: .f32)

  /// Correlated moments `[k, k]` of random tokens, and a weight `[n, k]`.
  private func problem(_ n: Int, _ k: Int) -> (weight: FloatRows, moments: [Float]) {
    let x = values(3 * k * k, seed: 11)
    let mixing = values(k * k, seed: 12)
    var moments = [Float](repeating: 0, count: k * k)
    for token in 0..<3 * k {
      var mixed = [Float](repeating: 0, count: k)
      for i in 0..<k {
        for j in 0..<k { mixed[j] += x[token * k + i] * mixing[i * k + j] }
      }
      for i in 0..<k { for j in 0..<k { moments[i * k + j] += mixed[i] * mixed[j] } }
    }
    for i in 0..<k { moments[i * k + i] *= 1.01 }
    return (FloatRows(values(n * k, seed: 13), columns: k), moments)
  }

  private func values(_ count: Int, seed: UInt64) -> [Float] {
    var state = seed
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(Int64(state >> 33)) / Float(1 << 30) - 1
    }
  }

  /// `e H eᵀ` of each row, in Double.
  private func losses(
    _ matrix: QuantizedMatrix, _ weight: FloatRows, _ moments: [Float]
  ) -> [Double] {
    let (decoded, k) = (matrix.decoded(), matrix.columns)
    return (0..<matrix.rows).map { row in
      let e = (0..<k).map { Double(weight.values[row * k + $0]) - Double(decoded[row * k + $0]) }
      var total = 0.0
      for i in 0..<k { for j in 0..<k { total += e[i] * Double(moments[i * k + j]) * e[j] } }
      return total
    }
  }

  @Test(
    arguments: [
      (4, false, 16), (4, true, 16), (8, false, 32), (4, false, nil),
    ] as [(Int, Bool, Int?)])
  func noRowEndsWorseAndMostEndBetter(_ bits: Int, _ symmetric: Bool, _ group: Int?) throws {
    let (n, k) = (37, 64)
    let (weight, moments) = problem(n, k)
    let scheme = WeightScheme(
      format: .int(bits: bits, symmetric: symmetric),
      granularity: group.map { .group($0) } ?? .channel)
    let factor = try #require(UpperFactor(of: moments, size: k, on: compute))
    for start in [
      QuantizedMatrix(
        nearest: weight,
        to: WeightRounding(scheme: scheme, scaleFormat: .f16, search: .extremes), on: compute),
      QuantizedMatrix(
        feedback: weight,
        to: WeightRounding(scheme: scheme, scaleFormat: .f16, search: .extremes), factor: factor,
        on: compute),
    ] {
      let before = losses(start, weight, moments)
      let refined = start.refined(
        toward: weight, moments: moments, scaleFormat: .f16, rounds: 2, on: compute)
      let after = losses(refined, weight, moments)
      // Products in float decide what is better in Double.
      for (a, b) in zip(after, before) { #expect(a <= b * 1.0001, "\(a), \(b)") }
      #expect(after.reduce(0, +) < 0.98 * before.reduce(0, +))
      #expect(refined.zeroPoints == start.zeroPoints)
      #expect(refined.scales.allSatisfy { $0 > 0 && FloatFormat.f16.round($0) == $0 })
      #expect(
        start.refined(
          toward: weight, moments: moments, scaleFormat: .f16, rounds: 2,
          on: Compute(threads: 3, precision: .f32)
        ).codes.array == refined.codes.array)
      // No single code can be moved to win more.
      #expect(
        refined.refined(
          toward: weight, moments: moments, scaleFormat: .f16, rounds: 0, on: compute
        ).codes.array == refined.codes.array)
    }
  }

  @Test func codesThatCannotBeBetterStand() {
    let k = 32
    var identity = [Float](repeating: 0, count: k * k)
    for i in 0..<k { identity[i * k + i] = 1 }
    // Values that lie on a grid: nothing is lost, so nothing moves.
    let weight = FloatRows((0..<3 * k).map { Float($0 % 16) / 4 }, columns: k)
    let exact = QuantizedMatrix(
      nearest: weight,
      to: WeightRounding(
        scheme: WeightScheme(format: .int(bits: 4, symmetric: false), granularity: .group(16)),
        scaleFormat: .f32, search: .extremes), on: compute)
    let refined = exact.refined(
      toward: weight, moments: identity, scaleFormat: .f32, rounds: 3, on: compute)
    #expect(refined.codes.array == exact.codes.array && refined.scales == exact.scales)
  }
}
