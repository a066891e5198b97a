import Foundation
import NibbleTensor
import Testing

/// The element-wise parts of a block, and what logits say, against double.
@Suite struct BlockTests {
  static let counts = [1, 15, 16, 17, 31, 33, 127, 576]

  @Test(arguments: counts, [1, 3])
  func rmsNormIsTheFormula(_ width: Int, _ threads: Int) {
    let rows = 33
    let x = uniform(rows * width, seed: 1, times: 30)
    let weight = uniform(width, seed: 2, times: 2)
    var y = [Float](repeating: .nan, count: x.count)
    var span = y.mutableSpan
    Compute(threads: threads, precision: .f32)
      .rmsNorm(x.span, weight: weight.span, epsilon: 1e-5, into: &span)
    for row in 0..<rows {
      let values = x[row * width..<(row + 1) * width].map(Double.init)
      let mean = values.reduce(0) { $0 + $1 * $1 } / Double(width)
      for i in 0..<width {
        let expected = values[i] / (mean + 1e-5).squareRoot() * Double(weight[i])
        // The float sum of up to 576 squares in 16 lanes rounds by 40 · 2^-24; a few steps follow.
        #expect(abs(Double(y[row * width + i]) - expected) <= abs(expected) * 3e-6)
      }
    }
  }

  @Test func rmsNormOfZerosIsZero() {
    let x = [Float](repeating: 0, count: 33)
    var y = [Float](repeating: .nan, count: 33)
    var span = y.mutableSpan
    oneThread.rmsNorm(x.span, weight: uniform(33, seed: 3).span, epsilon: 1e-5, into: &span)
    #expect(y.allSatisfy { $0 == 0 })
  }

  @Test(arguments: [0, 1, 31, 33, 127, 16384 + 33])
  func siluMultiplyIsTheFormula(_ count: Int) {
    var gate = uniform(count, seed: 4, times: 20)
    for (index, value) in [Float(0), -100, 100, .leastNonzeroMagnitude, -1e30].enumerated()
    where index < count { gate[index] = value }
    let up = uniform(count, seed: 5)
    let before = gate
    var span = gate.mutableSpan
    Compute(threads: 3, precision: .f32).siluMultiply(&span, by: up.span)
    for i in 0..<count {
      let expected = Double(before[i]) / (1 + exp(-Double(before[i]))) * Double(up[i])
      // The exponential is within 2 ulp until it clamps at e^88, where -1e30 is still below 1e-8.
      guard abs(Double(gate[i]) - expected) <= abs(expected) * 5e-7 + 1e-8 else {
        Issue.record("silu(\(before[i])) · \(up[i]) is \(gate[i]), not \(expected)")
        return
      }
    }
  }

  @Test(arguments: [0, 1, 33, 16384 + 1])
  func addsElementByElement(_ count: Int) {
    let (x, before) = (uniform(count, seed: 6), uniform(count, seed: 7))
    var y = before
    var span = y.mutableSpan
    Compute(threads: 2, precision: .f32).add(x.span, to: &span)
    #expect(y == zip(x, before).map { $0 + $1 })
  }

  @Test func addsTheBiasToEachRow() {
    let (bias, before) = (uniform(33, seed: 8), uniform(33 * 5, seed: 9))
    var y = before
    var span = y.mutableSpan
    oneThread.addBias(bias.span, to: &span)
    #expect(y == before.indices.map { before[$0] + bias[$0 % 33] })
  }

  @Test(arguments: counts)
  func softmaxIsTheFormula(_ count: Int) {
    let x = uniform(count, seed: 10, times: 30)
    var y = x
    var span = y.mutableSpan
    Logits.softmax(&span)
    let peak = Double(x.max()!)
    let sum = x.reduce(0) { $0 + exp(Double($1) - peak) }
    for (value, result) in zip(x, y) {
      let expected = exp(Double(value) - peak) / sum
      // A difference of up to 60 rounds by 2^-19 and the exponential turns that into a ratio.
      #expect(abs(Double(result) - expected) <= expected * 4e-6 + 1e-30)
    }
    #expect(abs(y.reduce(0) { $0 + Double($1) } - 1) < 1e-5)
  }

  @Test func softmaxTakesTheEnds() {
    var x: [Float] = [-.infinity, 1e30, -1e30, 1e30, 0]
    var span = x.mutableSpan
    Logits.softmax(&span)
    #expect(x == [0, 0.5, 0, 0.5, 0])
  }

  @Test func argmaxIsTheFirstOfTheLargest() {
    #expect(Logits.argmax([3].span) == 0)
    #expect(Logits.argmax([-1, -1, -2].span) == 0)
    #expect(Logits.argmax([-.infinity, -5, -5].span) == 1)
    for count in [31, 33, 127] {
      for at in [0, 15, 16, 30] {
        var x = uniform(count, seed: 11)
        x[at] = 2
        x[count - 1] = 2
        #expect(Logits.argmax(x.span) == at)
      }
    }
  }

  /// `-log softmax` of a row in double.
  private func logProbabilities(_ row: some Collection<Float>) -> [Double] {
    let peak = Double(row.max()!)
    let total = peak + log(row.reduce(0) { $0 + exp(Double($1) - peak) })
    return row.map { Double($0) - total }
  }

  @Test(arguments: [1, 33, 1000], [1, 3])
  func lossesAndComparisonsAreTheFormulas(_ width: Int, _ threads: Int) {
    let rows = 7
    let compute = Compute(threads: threads, precision: .f32)
    let base = gaussian(rows * width, seed: 12).map { 3 * $0 }
    let other = zip(base, gaussian(rows * width, seed: 13)).map { $0 + 0.3 * $1 }
    let targets = (0..<rows).map { $0 * 37 % width }
    let losses = compute.losses(other.span, targets: targets)
    let comparisons = compute.compare(other.span, to: base.span, targets: targets)
    #expect(losses.count == rows && comparisons.count == rows)
    for row in 0..<rows {
      let range = row * width..<(row + 1) * width
      let (q, p) = (logProbabilities(other[range]), logProbabilities(base[range]))
      let divergence = zip(p, q).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
      // Each exponential is within 2 ulp of float; the sums are double.
      #expect(abs(losses[row] + q[targets[row]]) < 1e-6)
      #expect(losses[row] == comparisons[row].loss)
      #expect(abs(comparisons[row].baseLoss + p[targets[row]]) < 1e-6)
      #expect(abs(comparisons[row].divergence - divergence) < 1e-6)
      #expect(comparisons[row].agrees == (p.firstIndex(of: p.max()!) == q.firstIndex(of: q.max()!)))
      let change = exp(q[targets[row]]) - exp(p[targets[row]])
      #expect(abs(comparisons[row].probabilityChange - change) < 1e-6)
      let (best, baseBest) = (Self.best(other[range]), Self.best(base[range]))
      #expect(
        comparisons[row].top5 == Double(baseBest.intersection(best).count) / Double(min(5, width)))
    }
  }

  /// Offsets of the five largest values, the lower on ties.
  private static func best(_ row: some Collection<Float>) -> Set<Int> {
    Set(
      row.enumerated().sorted { ($1.element, $0.offset) < ($0.element, $1.offset) }.prefix(5)
        .map(\.offset))
  }

  @Test(arguments: [1, 2, 5, 6, 16, 31, 33, 127])
  func theLowerIdsWinTiesAmongTheFiveLikeliest(_ width: Int) {
    for seed in 0..<20 {
      // Few different values, so that most are tied.
      let base = gaussian(width, seed: UInt64(40 + seed)).map { ($0 * 2).rounded() }
      let other = gaussian(width, seed: UInt64(80 + seed)).map { ($0 * 2).rounded() }
      let found = oneThread.compare(other.span, to: base.span, targets: [0])[0]
      let shared = Self.best(base).intersection(Self.best(other)).count
      #expect(found.top5 == Double(shared) / Double(min(5, width)))
    }
  }

  @Test func equalLogitsDoNotDiverge() {
    let logits = gaussian(5 * 129, seed: 14).map { 10 * $0 }
    for row in oneThread.compare(logits.span, to: logits.span, targets: [0, 1, 2, 128, 4]) {
      #expect(row.divergence == 0 && row.agrees && row.loss == row.baseLoss)
    }
  }

  @Test func aLogitThatIsOneGivesNoLoss() {
    let logits: [Float] = [0, 200, -1e30, 0]
    #expect(oneThread.losses(logits.span, targets: [1])[0] == 0)
    #expect(oneThread.losses(logits.span, targets: [0])[0] == 200)
    #expect(oneThread.losses([Float]().span, targets: []) == [])
  }

  @Test(arguments: [0, 1, 31, 33, 127])
  func errorEnergyIsTheSumsOfSquares(_ count: Int) {
    let (base, other) = (uniform(count, seed: 15, times: 1e3), uniform(count, seed: 16))
    let (error, signal) = errorEnergy(of: other.span, against: base.span)
    let expected = zip(base, other).reduce(0.0) {
      $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1))
    }
    let energy = base.reduce(0.0) { $0 + Double($1) * Double($1) }
    // Double sums in another order.
    #expect(abs(error - expected) <= expected * 1e-13)
    #expect(abs(signal - energy) <= energy * 1e-13)
  }
}
