import NibbleTensor
import Testing

@Suite struct UpperFactorTests {
  /// Half a unit in the last place of 1: what a float operation may lose.
  private let unit = 0x1p-24

  @Test(arguments: [1, 2, 31, 97, 130, 200])
  func theFactorTimesItsTransposeIsTheMatrix(_ k: Int) throws {
    let moments = secondMoments(
      correlated(tokens: 2 * k + 3, channels: k, seed: UInt64(k)), channels: k)
    let factor = try #require(UpperFactor(of: moments.floats, size: k, on: oneThread))
    #expect(factor.size == k)
    let r = DoubleMatrix(factor.values, columns: k)
    let product = r * r.transposed
    // Error over Cholesky's bound: |R||Rᵀ| is at most the root of the diagonal's product.
    var worst = 0.0
    for i in 0..<k {
      #expect(r[i, i] > 0)
      for j in 0..<k {
        let bound = Double(k + 2) * unit * (moments[i, i] * moments[j, j]).squareRoot()
        worst = max(worst, abs(product[i, j] - moments[i, j]) / bound)
      }
    }
    #expect(worst <= 1)
    #expect((0..<k).allSatisfy { i in (0..<i).allSatisfy { r[i, $0] == 0 } })
  }

  @Test(arguments: [1, 2, 31, 97, 130, 200])
  func theSolutionTimesTheMatrixIsTheRightHandSide(_ k: Int) throws {
    var moments = secondMoments(
      correlated(tokens: 2 * k + 3, channels: k, seed: UInt64(k)), channels: k)
    let mean = (0..<k).reduce(0.0) { $0 + moments[$1, $1] / Double(k) }
    for j in 0..<k { moments[j, j] += 0.01 * mean }
    let factor = try #require(UpperFactor(of: moments.floats, size: k, on: oneThread))
    let wanted = FloatRows(correlated(tokens: 67, channels: k, seed: 8), columns: k)
    var solution = wanted
    factor.solve(&solution, on: oneThread)
    var other = wanted
    factor.solve(&other, on: Compute(threads: 3, precision: .f32))
    #expect(other == solution)
    let product = DoubleMatrix(solution.values, columns: k) * moments
    let scale = wanted.values.reduce(0) { max($0, Double(abs($1))) }
    // The condition of the damped matrix is at most some thousands.
    for (value, wanted) in zip(product.values, wanted.values) {
      #expect(abs(value - Double(wanted)) <= 1e-4 * scale)
    }
  }

  @Test(arguments: [1, 2, 31, 97, 130, 200])
  func aMatrixThatIsNotPositiveDefiniteHasNoFactor(_ k: Int) {
    let identity = (0..<k * k).map { $0 / k == $0 % k ? Float(1) : 0 }
    let isIdentity = UpperFactor(of: identity, size: k, on: oneThread)?.values == identity
    #expect(isIdentity)
    for place in Set([0, k / 2, k - 1]) {
      for value in [-1, 0, -.infinity, .nan] as [Float] {
        var matrix = identity
        matrix[place * k + place] = value
        let isRefused = UpperFactor(of: matrix, size: k, on: oneThread) == nil
        #expect(isRefused, "\(value) at \(place)")
      }
      // Positive on the diagonal, and e - f has the energy 1 + 1 - 2 · 2.
      let other = place == 0 ? k - 1 : 0
      if other == place { continue }
      var matrix = identity
      matrix[place * k + other] = 2
      matrix[other * k + place] = 2
      let isRefused = UpperFactor(of: matrix, size: k, on: oneThread) == nil
      #expect(isRefused, "\(place), \(other)")
    }
    let infinite = [Float](repeating: .infinity, count: k * k)
    #expect(UpperFactor(of: infinite, size: k, on: oneThread)?.size == nil)
  }

  @Test func threadsDoNotChangeABit() throws {
    let k = 200
    let moments = secondMoments(correlated(tokens: 300, channels: k, seed: 9), channels: k).floats
    let one = try #require(UpperFactor(of: moments, size: k, on: oneThread))
    let threads = Compute(threads: 3, precision: .f32)
    let three = try #require(UpperFactor(of: moments, size: k, on: threads))
    #expect(one.values.bits == three.values.bits)
  }
}
