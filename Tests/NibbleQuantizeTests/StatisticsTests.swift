import NibbleTensor
import Testing

@testable import NibbleQuantize

@Suite struct StatisticsTests {
  /// A window's activation `[t, channels]` that depends on its tokens alone.
  private func activation(_ tokens: [Int], _ channels: Int) -> [Float] {
    var random = SplitMix(state: WindowIdentity(tokens).hash)
    return (0..<tokens.count * channels).map { i in
      Float.random(in: -1...1, using: &random) * (i % 97 == 0 ? 10 : 1)
    }
  }

  private func windows(_ count: Int) -> [[Int]] {
    (0..<count).map { someTokens(5 + $0 % 7, below: 100, seed: UInt64($0)) }
  }

  private func sample(
    _ windows: some Sequence<[Int]>, _ keeps: TokenSample.Choice, capacity: Int
  ) -> TokenSample {
    var sample = TokenSample(channels: 3, capacity: capacity, keeps: keeps)
    for window in windows { sample.add(activation(window, 3), window: WindowIdentity(window)) }
    return sample
  }

  @Test(arguments: [TokenSample.Choice.any, .loudest], [1, 31, 200, 100_000])
  func aSampleDoesNotDependOnOrderOrDivision(_ keeps: TokenSample.Choice, _ capacity: Int) {
    // One window comes twice.
    let windows = windows(40) + [windows(3)[2]]
    let whole = sample(windows, keeps, capacity: capacity)
    #expect(whole.values.rows == min(capacity, windows.reduce(0) { $0 + $1.count }))
    var random = SplitMix(state: 5)
    for _ in 0..<5 {
      let shuffled = windows.shuffled(using: &random)
      #expect(sample(shuffled, keeps, capacity: capacity) == whole)
      let cut = Int.random(in: 0...windows.count, using: &random)
      let halves = [shuffled[..<cut], shuffled[cut...]].map {
        sample($0, keeps, capacity: capacity)
      }
      var (one, other) = (halves[0], halves[1])
      one.merge(halves[1])
      other.merge(halves[0])
      #expect(one == whole && other == whole)
    }
  }

  @Test func theLoudestAreThoseWithTheLargestValues() {
    let windows = windows(30)
    let rows = windows.flatMap { window in
      let x = activation(window, 3)
      return stride(from: 0, to: x.count, by: 3).map { Array(x[$0..<$0 + 3]) }
    }
    let peaks = rows.map { row in row.map(abs).max() ?? 0 }.sorted(by: >)
    let kept = sample(windows, .loudest, capacity: 12).values
    #expect(kept.rowPeaks == Array(peaks.prefix(12)))
    for row in 0..<12 { #expect(rows.contains(Array(kept.values[row * 3..<row * 3 + 3]))) }
  }

  @Test func aUniformSampleFavoursNoPosition() {
    var sample = TokenSample(channels: 1, capacity: 2000, keeps: .any)
    let length = 100
    for window in 0..<200 {
      sample.add(
        (0..<length).map(Float.init),
        window: WindowIdentity(someTokens(length, below: 50, seed: UInt64(window))))
    }
    // 2000 of 20000 positions, uniform in 0..<100: the mean has a deviation of 0.65.
    let values = sample.values.values
    let mean = values.reduce(0, +) / 2000
    #expect(abs(mean - 49.5) < 3)
    for decile in 0..<10 {
      // 200 expected, deviation 13.4.
      let count = values.count { Int($0) / 10 == decile }
      #expect(abs(count - 200) < 60, "\(decile): \(count)")
    }
  }

  @Test func windowsAreToldApartByEveryToken() {
    let tokens = someTokens(20, below: 50)
    var seen: Set<UInt64> = [WindowIdentity(tokens).hash]
    #expect(WindowIdentity(Array(tokens)).hash == seen.first)
    for i in tokens.indices {
      var other = tokens
      other[i] += 1
      #expect(seen.insert(WindowIdentity(other).hash).inserted)
    }
    #expect(seen.insert(WindowIdentity(tokens.reversed()).hash).inserted)
    #expect(seen.insert(WindowIdentity(tokens + [0]).hash).inserted)
    #expect(seen.insert(WindowIdentity([]).hash).inserted)
    let priorities = Set((0..<1000).map(WindowIdentity(tokens).priority))
    #expect(priorities.count == 1000)
  }

  @Test func meansAreOverAllTokens() {
    let windows = windows(9)
    let compute = Compute(threads: 1, precision: .f32)
    var statistics = ActivationStatistics(channels: 3, sampled: 7, keepsMoments: true)
    #expect(statistics.meanMagnitude == [0, 0, 0] && statistics.meanSquare == [0, 0, 0])
    var all: [Float] = []
    for window in windows {
      let x = activation(window, 3)
      all += x
      statistics.add(x, window: WindowIdentity(window), on: compute)
    }
    statistics.finish(on: compute)
    let tokens = all.count / 3
    #expect(statistics.tokens == tokens && statistics.sample.values.rows == 7)
    #expect(statistics.loudest.values.rows == 32)
    for channel in 0..<3 {
      let column = stride(from: channel, to: all.count, by: 3).map { Double(all[$0]) }
      let magnitude = column.reduce(0) { $0 + abs($1) } / Double(tokens)
      let square = column.reduce(0) { $0 + $1 * $1 } / Double(tokens)
      #expect(abs(Double(statistics.meanMagnitude[channel]) - magnitude) < 1e-5 * magnitude)
      #expect(abs(statistics.meanSquare[channel] - square) < 1e-5 * square)
      #expect(
        abs(Double(statistics.moments?.values[4 * channel] ?? 0) - square * Double(tokens))
          < 1e-5 * square * Double(tokens))
    }
  }
}
