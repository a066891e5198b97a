import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct AlignmentTests {
  private let compute = Compute(threads: 1, precision: .f32)

  /// Rows `[k, t]` as tokens `[t, k]`.
  private func tokens(_ rows: [[Float]]) -> [Float] {
    rows[0].indices.flatMap { token in rows.map { $0[token] } }
  }

  private func sums(
    _ x: [Float], source: [Float], states: [Float]? = nil, channels: Int
  ) -> AlignedMoments {
    var sums = AlignedMoments(
      channels: channels, states: states.map { $0.count / (x.count / channels) })
    sums.add(x, source: source, states: states, on: compute)
    sums.finish(on: compute)
    return sums
  }

  private func values(_ count: Int, seed: UInt64) -> [Float] {
    var random = SplitMix(state: seed)
    return (0..<count).map { _ in Float.random(in: -1...1, using: &random) }
  }

  /// Printed by an implementation of the equations in double precision, which was checked against
  /// the code of Qronos in brevitas.
  @Test func theTargetIsThatOfThePublishedExample() {
    let weight = FloatRows(
      [-0.05, -0.78, 0.45, -0.14, -0.74, -0.01, -0.24, 0.69, 1.18, 0.04, 0.73, 0.32], columns: 4)
    let source: [[Float]] = [
      [0.4, 0.5, 1.0, 0.7, 0.6, -2.4], [2.7, -0.4, -3.0, -0.1, -1.4, -2.9],
      [-1.4, 0.4, 2.4, 1.0, 1.3, 1.7], [-0.4, -0.2, 0.0, -0.1, -0.1, 1.4],
    ]
    let x: [[Float]] = [
      [0.3, 0.6, 0.9, 0.6, 0.9, -2.5], [2.2, -0.3, -2.8, 0.0, -0.9, -3.1],
      [-0.7, 0.3, 3.2, 1.0, 1.6, 1.5], [-0.2, 0.3, 0.0, 0.0, -0.2, 1.0],
    ]
    let targets = SiteTargets(
      Alignment(damping: 0.01), fit: sums(tokens(x), source: tokens(source), channels: 4),
      check: nil, weights: [weight], on: compute)
    let expected: [Float] = [
      0.239138, -1.110892, 0.104575, -0.060209, -0.902402, -0.033999, -0.152413, 0.209352, 1.057815,
      -0.107473, 0.500035, 0.350579,
    ]
    for (ours, theirs) in zip(targets.target(of: weight, on: compute).values, expected) {
      #expect(abs(ours - theirs) < 2e-5)
    }
  }

  @Test func withoutDriftTheTargetIsTheWeight() {
    let weight = FloatRows(values(5 * 24, seed: 1), columns: 24)
    let x = values(90 * 24, seed: 2)
    let all = sums(x, source: x, channels: 24)
    for check in [nil, all] {
      let targets = SiteTargets(
        Alignment(), fit: all, check: check, weights: [weight], on: compute)
      #expect(targets.target(of: weight, on: compute) == weight)
    }
  }

  /// The outputs on the quantized model's inputs are then those on the source's, and with an error of
  /// the states they make up for it.
  @Test(arguments: [false, true])
  func aDriftThatIsLinearIsUndone(_ hasStates: Bool) throws {
    let (k, n, tokens) = (20, 7, 400)
    let weight = FloatRows(values(n * k, seed: 3), columns: k)
    let x = values(tokens * k, seed: 4)
    /// `Σ_i a[row, i] · x[t, i]` for all tokens and rows.
    func product(_ a: [Float], _ rows: Int) -> [Float] {
      var y = [Float](repeating: 0, count: tokens * rows)
      for t in 0..<tokens {
        for row in 0..<rows {
          for i in 0..<k { y[t * rows + row] += a[row * k + i] * x[t * k + i] }
        }
      }
      return y
    }
    let source = zip(x, product(values(k * k, seed: 5), k)).map { $0 + 0.1 * $1 }
    // An error of the states that the inputs explain.
    let states = product(values(n * k, seed: 6), n).map { 0.1 * $0 }
    let all = sums(x, source: source, states: hasStates ? states : nil, channels: k)
    let targets = SiteTargets(
      Alignment(damping: 1e-4), fit: all, check: all, weights: [weight], on: compute)
    let target = targets.target(of: weight, on: compute)
    var (error, signal, before) = (0.0, 0.0, 0.0)
    for t in 0..<tokens {
      for row in 0..<n {
        func output(_ weight: FloatRows, _ x: [Float]) -> Double {
          var sum = 0.0
          for i in 0..<k { sum += Double(weight.values[row * k + i]) * Double(x[t * k + i]) }
          return sum
        }
        let missing = hasStates ? Double(states[t * n + row]) : 0
        let wanted = output(weight, source) + missing
        let (after, old) = (output(target, x) - wanted, output(weight, x) - wanted)
        error += after * after
        before += old * old
        signal += wanted * wanted
      }
    }
    #expect(error < 1e-6 * signal, "\(error / signal)")
    #expect(before > 1e-2 * signal, "\(before / signal)")
    #expect(targets.summary?.contains("states") == hasStates)
  }

  /// What the windows kept out contradict is not learned.
  @Test func aDriftThatIsNoiseIsLeftAlone() throws {
    let k = 32
    let weight = FloatRows(values(9 * k, seed: 7), columns: k)
    func noisy(_ seed: UInt64) -> AlignedMoments {
      let x = values(40 * k, seed: seed)
      let noise = values(40 * k, seed: seed + 100)
      return sums(x, source: zip(x, noise).map { $0 + 0.3 * $1 }, channels: k)
    }
    let targets = SiteTargets(
      Alignment(), fit: noisy(11), check: noisy(12), weights: [weight], on: compute)
    let change = zip(targets.target(of: weight, on: compute).values, weight.values)
      .reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    let sure = SiteTargets(
      Alignment(damping: 0.003), fit: noisy(11), check: nil, weights: [weight], on: compute)
    let unchecked = zip(sure.target(of: weight, on: compute).values, weight.values)
      .reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    #expect(change < 0.5 * unchecked, "\(change), \(unchecked)")
  }

  @Test func sumsThatOverflowLeaveTheWeight() {
    let weight = FloatRows(values(3 * 8, seed: 8), columns: 8)
    let large = [Float](repeating: 1e30, count: 16)
    let targets = SiteTargets(
      Alignment(damping: 0.01), fit: sums(large, source: values(16, seed: 9), channels: 8),
      check: nil, weights: [weight], on: compute)
    #expect(targets.target(of: weight, on: compute) == weight)
  }

  /// The states after a block come closer to the source's, in whole runs.
  @Test(arguments: ["gptq", "awq", "outliers"])
  func theQuantizedModelComesCloserToTheSource(_ name: String) throws {
    var plain = Recipe.w4a16GPTQ
    var aligned = plain
    switch name {
    case "outliers":
      var round = OutlierRound(rule: .rowDeviation(3))
      round.compensates = true
      plain = Recipe.w8a8s
      plain.steps = [round]
      round.alignment = Alignment()
      aligned = plain
      aligned.steps = [round]
    default:
      var gptq = GPTQ()
      plain.scheme.weights = WeightScheme(
        format: .int(bits: 4, symmetric: true), granularity: .group(32))
      plain.steps = name == "awq" ? [AWQ(), gptq] : [gptq]
      gptq.alignment = Alignment()
      aligned = plain
      aligned.steps = name == "awq" ? [AWQ(), gptq] : [gptq]
    }
    try inTemporaryFolder { folder in
      var model = TinyModel()
      model.blocks = 4
      try model.write(in: folder + "/source", config: [:])
      var divergence: [Double] = []
      for recipe in [plain, aligned] {
        var setting = TinyRun(recipe)
        setting.windows.calibration = (0..<20).map {
          someTokens(64, below: 128, seed: 100 + UInt64($0))
        }
        setting.windows.heldOut = (0..<8).map {
          someTokens(64, below: 128, seed: 200 + UInt64($0))
        }
        let report = try setting.run(
          folder + "/source", to: folder + "/\(divergence.count)")
        divergence.append(try #require(report.verdict).kl)
      }
      #expect(divergence[1] < divergence[0], "\(divergence)")
    }
  }
}
