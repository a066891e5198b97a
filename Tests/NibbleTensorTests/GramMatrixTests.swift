import NibbleTensor
import Testing

@Suite struct GramMatrixTests {
  /// What reaches the sum: rounded to bfloat16 where that is what the processor multiplies.
  private func seen(_ x: [Float], _ precision: Precision) -> [Float] {
    precision == .bf16 && Compute.tiles != .none ? x.map(roundedToBFloat) : x
  }

  /// Values within 1e-5 of `Σ x x`, relative to the sizes of both channels: some thousand sums in
  /// float, in lanes, lose less.
  private func expectProduct(
    _ gram: GramMatrix, _ x: [Float], _ precision: Precision,
    _ location: SourceLocation = #_sourceLocation
  ) {
    let k = gram.channels
    let activation = DoubleMatrix(seen(x, precision), columns: k)
    let product = activation.transposed * activation
    var worst = 0.0
    for row in 0..<k {
      for column in 0..<k {
        let error = abs(Double(gram.values[row * k + column]) - product[row, column])
        let size = (product[row, row] * product[column, column]).squareRoot()
        worst = max(worst, size > 0 ? error / size : error)
      }
    }
    #expect(worst <= 1e-5, sourceLocation: location)
  }

  @Test(arguments: [(1, 40), (15, 1), (33, 2500), (130, 77), (300, 150)], Precision.allCases)
  func anActivationsMomentsAreTheSumOverItsTokens(
    _ shape: (channels: Int, tokens: Int), _ precision: Precision
  ) {
    let (k, t) = shape
    let x = correlated(tokens: t, channels: k, seed: UInt64(k))
    let compute = Compute(threads: 1, precision: precision)
    var gram = GramMatrix(channels: k)
    var start = 0
    for size in [1, 7, 100, 2100, 31, t] where start < t {
      let end = min(t, start + size)
      gram.add(Array(x[start * k..<end * k]), on: compute)
      start = end
    }
    gram.finish(on: compute)
    gram.finish(on: compute)
    #expect(gram.tokens == t)
    expectProduct(gram, x, precision)
    let isTheProduct = gram.weight.values(of: 0..<k) == gram.values
    #expect(isTheProduct)
    let isSymmetric = (0..<k).allSatisfy { row in
      (0..<row).allSatisfy { gram.values[row * k + $0] == gram.values[$0 * k + row] }
    }
    #expect(isSymmetric)
  }

  @Test(arguments: Precision.allCases)
  func threadsDoNotChangeABit(_ precision: Precision) {
    let x = correlated(tokens: 2300, channels: 140, seed: 8)
    let results = [1, 3].map { threads in
      let compute = Compute(threads: threads, precision: precision)
      var own = GramMatrix(channels: 140)
      own.add(x, on: compute)
      own.finish(on: compute)
      return own.values.bits
    }
    #expect(results[0] == results[1])
  }

  @Test func dividedMomentsAreThoseOfTheDividedActivation() {
    let (k, t) = (33, 90)
    let x = correlated(tokens: t, channels: k, seed: 10)
    let factors = gaussian(k, seed: 11).map { 0.1 + abs($0) * 10 }
    var gram = GramMatrix(channels: k)
    gram.add(x, on: oneThread)
    gram.finish(on: oneThread)
    let divided = gram.divided(by: factors)
    #expect(divided.tokens == t)
    expectProduct(divided, x.indices.map { x[$0] / factors[$0 % k] }, .f32)
  }
}
