import NibbleTensor
import Testing

@testable import NibbleQuantize

@Suite struct InputRangeTests {
  static let schemes: [ActivationScheme] = [
    .staticPerTensor(.int8), .staticPerTensor(.e4m3), .staticAsymmetric,
  ]
  private let compute = Compute(threads: 1, precision: .f32)

  private func statistics(_ x: [Float], channels: Int) -> ActivationStatistics {
    var record = ActivationRecord(channels: channels)
    record.add(x, window: WindowIdentity([1, 2, 3]), on: compute)
    return ActivationStatistics(record, moments: nil)
  }

  /// `Σ_tokens Σ_c |W_:,c|² (x - x̂)²` over all tokens and, again, the 32 loudest.
  private func error(
    _ x: [Float], _ range: InputRange, _ scheme: ActivationScheme, _ weight: FloatRows
  ) -> Double {
    let k = weight.columns
    var importance = [Double](repeating: 0, count: k)
    for (i, w) in weight.values.enumerated() { importance[i % k] += Double(w) * Double(w) }
    let rounding = InputRounding(scheme, range: range)
    let back = rounding.rounded(x, columns: k, on: compute)
    var tokens: [(peak: Float, error: Double)] = []
    for token in 0..<x.count / k {
      let span = token * k..<(token + 1) * k
      var error = 0.0
      for i in span {
        let difference = Double(back[i] - x[i])
        error += importance[i % k] * difference * difference
      }
      tokens.append((x[span].map(abs).max() ?? 0, error))
    }
    let loudest = tokens.sorted { $0.peak > $1.peak }.prefix(32)
    var total = 0.0
    for token in tokens { total += token.error }
    for token in loudest { total += token.error }
    return total
  }

  private func values(_ count: Int, seed: UInt64) -> [Float] {
    var random = SplitMix(state: seed)
    // Sums of twelve: bell-shaped.
    return (0..<count).map { _ in
      (0..<12).reduce(Float(-6)) { sum, _ in sum + Float.random(in: 0..<1, using: &random) }
    }
  }

  @Test(arguments: schemes)
  func theRangeNeverLosesToTheExtremes(_ scheme: ActivationScheme) {
    let k = 33
    let weight = FloatRows(values(10 * k, seed: 1), columns: k)
    for (shift, tail) in [(0, 0), (0.3, 0), (0, 40), (2, 300)] as [(Float, Float)] {
      var x = values(100 * k, seed: 2).map { $0 + shift }
      if tail > 0 { for i in stride(from: 7, to: x.count, by: 911) { x[i] = tail } }
      let seen = statistics(x, channels: k)
      let found = InputRangeSearch.range(
        of: seen, scheme: scheme, weights: [weight], on: compute)
      let widest = InputRangeSearch.range(
        min(x.min() ?? 0, 0), max(x.max() ?? 0, 0), scheme)
      let (ours, theirs) = (
        error(x, found, scheme, weight), error(x, widest, scheme, weight)
      )
      #expect(ours <= theirs * (1 + 1e-4), "\(shift), \(tail): \(found), \(widest)")
      #expect(found.scale <= widest.scale * 1.0001)
      // 0 has a code of its own.
      #expect((-128...127).contains(found.zero))
    }
  }

  @Test(arguments: schemes)
  func theWidestRangeHoldsEveryValue(_ scheme: ActivationScheme) {
    for (low, high) in [(-1, 1), (0, 5), (-3, 0), (-0.1, 7), (-900, 1), (0, 1e-30)]
      as [(Float, Float)]
    {
      let range = InputRangeSearch.range(low, high, scheme)
      let x = (0...32).map { low + (high - low) * Float($0) / 32 } + [0]
      let back = InputRounding(scheme, range: range).rounded(x, columns: x.count, on: compute)
      for (a, b) in zip(x, back) {
        // Half a step; a step at an end that the rounded zero point moved out.
        let bound =
          scheme.format == .e4m3
          ? max(abs(a) / 16, range.scale * 0x1p-10)
          : range.scale * (scheme == .staticAsymmetric ? 1.001 : 0.5001)
        #expect(abs(a - b) <= bound, "\(low)...\(high): \(a) as \(b)")
      }
      #expect(back.last == 0)
    }
  }

  @Test(arguments: schemes)
  func anActivationWithoutASpreadIsKept(_ scheme: ActivationScheme) {
    let k = 5
    let weight = FloatRows([Float](repeating: 1, count: k), columns: k)
    for value in [3, -3, 0, 1e-20, -60000] as [Float] {
      let x = [Float](repeating: value, count: 8 * k)
      let range = InputRangeSearch.range(
        of: statistics(x, channels: k), scheme: scheme, weights: [weight], on: compute)
      let back = InputRounding(scheme, range: range).rounded(x, columns: k, on: compute)
      for y in back { #expect(abs(y - value) <= abs(value) * 1e-6, "\(value) as \(y)") }
      if value == 0 { #expect(range.scale == 1) }
    }
  }

  @Test(arguments: schemes)
  func anActivationThatOverflowedHasARange(_ scheme: ActivationScheme) {
    let k = 2
    let weight = FloatRows([1, 1], columns: k)
    for x in [
      [1, .infinity], [-.infinity, 2], [-.infinity, .infinity], [.nan, .nan], [.nan, 3],
      [-.greatestFiniteMagnitude, .greatestFiniteMagnitude],
    ] as [[Float]] {
      let range = InputRangeSearch.range(
        of: statistics(x, channels: k), scheme: scheme, weights: [weight], on: compute)
      #expect(range.scale.isFinite && range.scale > 0)
    }
  }
}
