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
    _ windows: some Sequence<[Int]>, _ keeps: TokenSample.Choice, capacity: Int,
    upTo bound: UInt64 = .max
  ) -> TokenSample {
    var sample = TokenSample(channels: 3, capacity: capacity, keeps: keeps)
    let compute = Compute(threads: 2, precision: .f32)
    for window in windows {
      sample.add(
        activation(window, 3), window: WindowIdentity(window), upTo: bound, on: compute)
    }
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

  @Test(arguments: [1, 31, 200, 280, 100_000])
  func whatThePriorityBoundKeepsOutWouldNotHaveStayed(_ capacity: Int) {
    let windows = windows(40)
    let bound = TokenSample.bound(of: windows, capacity: capacity)
    #expect(
      sample(windows, .any, capacity: capacity, upTo: bound)
        == sample(windows, .any, capacity: capacity))
    guard bound < .max else { return }
    // It is the lowest such bound.
    let less = sample(windows, .any, capacity: capacity, upTo: bound - 1)
    #expect(less.count == capacity - 1)
  }

  @Test func theLoudestAreThoseWithTheLargestValues() {
    let windows = windows(30)
    let rows = windows.flatMap { window in
      let x = activation(window, 3)
      return stride(from: 0, to: x.count, by: 3).map { Array(x[$0..<$0 + 3]) }
    }
    let peaks = rows.map { row in row.map(abs).max() ?? 0 }.sorted(by: >)
    let kept = sample(windows, .loudest, capacity: 12).values
    #expect(kept.rowPeaks() == Array(peaks.prefix(12)))
    for row in 0..<12 { #expect(rows.contains(Array(kept.values[row * 3..<row * 3 + 3]))) }
  }

  @Test func aUniformSampleFavoursNoPosition() {
    var sample = TokenSample(channels: 1, capacity: 2000, keeps: .any)
    let length = 100
    for window in 0..<200 {
      sample.add(
        (0..<length).map(Float.init),
        window: WindowIdentity(someTokens(length, below: 50, seed: UInt64(window))),
        on: Compute(threads: 1, precision: .f32))
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
    let record = record(windows)
    let all = windows.flatMap { activation($0, 3) }
    let tokens = all.count / 3
    var statistics = ActivationStatistics(record, moments: nil)
    #expect(statistics.tokens == tokens && statistics.sample.rows == tokens)
    #expect(statistics.loudest.rows == 32 && statistics.moments == nil)
    statistics.estimateMoments(on: compute)
    for channel in 0..<3 {
      let column = stride(from: channel, to: all.count, by: 3).map { Double(all[$0]) }
      let magnitude = column.reduce(0) { $0 + abs($1) } / Double(tokens)
      let square = column.reduce(0) { $0 + $1 * $1 } / Double(tokens)
      #expect(Double(record.low[channel]) == column.min())
      #expect(Double(record.high[channel]) == column.max())
      #expect(abs(Double(statistics.meanMagnitude[channel]) - magnitude) < 1e-5 * magnitude)
      #expect(abs(statistics.meanSquare[channel] - square) < 1e-5 * square)
      // Every token is in the sample.
      let moment = Double(statistics.moments?.values[4 * channel] ?? 0)
      #expect(abs(moment - square * Double(tokens)) < 1e-5 * square * Double(tokens))
    }
  }

  private var compute: Compute { Compute(threads: 1, precision: .f32) }

  private func record(_ windows: some Sequence<[Int]>, threads: Int = 1) -> ActivationRecord {
    var record = ActivationRecord(channels: 3)
    let compute = Compute(threads: threads, precision: .f32)
    for window in windows {
      record.add(activation(window, 3), window: WindowIdentity(window), on: compute)
    }
    return record
  }

  @Test func aRecordDoesNotDependOnOrderOrDivisionOrThreads() {
    let windows = windows(150)
    let whole = record(windows)
    var random = SplitMix(state: 6)
    for trial in 0..<5 {
      let shuffled = windows.shuffled(using: &random)
      #expect(record(shuffled, threads: 1 + trial) == whole)
      let cut = Int.random(in: 0...windows.count, using: &random)
      var merged = record(shuffled[..<cut])
      merged.merge(record(shuffled[cut...]))
      #expect(merged == whole)
      var three = ActivationRecord(channels: 3)
      for part in [shuffled[100...], shuffled[..<50], shuffled[50..<100]] {
        three.merge(record(part))
      }
      #expect(three == whole)
    }
  }

  @Test func aSumForgetsTheOrderOfItsTerms() {
    var random = SplitMix(state: 7)
    for spread in [1e-15, 1, 1e6] {
      let terms = (0..<500).map { _ in
        Double.random(in: -1...1, using: &random) * spread
          * (Bool.random(using: &random) ? 1 : 1e-4)
      }
      var whole = OrderFreeSum()
      for term in terms { whole.add(term) }
      // Each term loses less than 2^-72.
      #expect(abs(whole.value - terms.reduce(0, +)) <= 500 * 0x1p-72 + 1e-13 * spread)
      var (shuffled, left, right) = (OrderFreeSum(), OrderFreeSum(), OrderFreeSum())
      for (index, term) in terms.shuffled(using: &random).enumerated() {
        shuffled.add(term)
        if index < 123 { left.add(term) } else { right.add(term) }
      }
      right.merge(left)
      #expect(shuffled == whole && right == whole)
    }
    for term in [Double.infinity, -.infinity, .nan, .greatestFiniteMagnitude, 0x1p42, -0x1p42, 0] {
      var sum = OrderFreeSum()
      sum.add(term)
      #expect(abs(sum.value) <= 0x1p42, "\(term)")
      #expect(OrderFreeSum(high: sum.high, low: sum.low) == sum)
    }
    #expect(OrderFreeSum(high: 0, low: -1) == nil && OrderFreeSum(high: 0, low: 1 << 52) == nil)
  }

  @Test func activationsThatAreNoNumbersEndWithARecord() {
    var record = ActivationRecord(channels: 2)
    record.add(
      [1, .infinity, .nan, -.infinity, .nan, .nan, 3e38, -3e38], window: WindowIdentity([1]),
      on: compute)
    #expect(record.tokens == 4)
    #expect(ActivationStatistics(record, moments: nil).meanSquare.allSatisfy { $0 >= 0 })
  }
}
