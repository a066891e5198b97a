public import NibbleTensor

/// Runs one side or two in turn, each round in a process of its own, and measures between the rounds
/// what this machine can do.
public struct Bench {
  private let sides: [BenchSide]
  private let settings: BenchSettings
  private let rounds: Int

  /// - Parameter sides: ours, and what it is compared with if anything.
  public init(_ sides: [BenchSide], _ settings: BenchSettings, rounds: Int) {
    precondition((1...2).contains(sides.count), "\(sides.count) sides")
    self.sides = sides
    self.settings = settings
    self.rounds = max(1, rounds)
  }

  /// - Parameters:
  ///   - compute: as many threads as the sides have.
  ///   - progress: called after each process, with the round, the side and what it measured.
  public func run(
    on compute: Compute, progress: (_ round: Int, _ side: Int, BenchFigures) -> Void,
    shouldStop: () -> Bool = { false }
  ) throws(ModelError) -> BenchReport {
    var figures = [[BenchFigures]](repeating: [], count: sides.count)
    var limits: [MachineLimits] = []
    for round in 0..<rounds {
      // Whatever the first of a pair leaves behind meets each side as often.
      for side in round.isMultiple(of: 2) ? Array(sides.indices) : sides.indices.reversed() {
        let found = try sides[side].round(settings, shouldStop: shouldStop)
        figures[side].append(found)
        progress(round, side, found)
      }
      limits.append(MachineLimits.measure(on: compute))
    }
    return BenchReport(
      settings: settings, rounds: rounds, threads: compute.pool.threads,
      sides: figures.map { BenchFigures(medianOf: $0) }, limits: MachineLimits(medianOf: limits))
  }
}

extension MachineLimits {
  init(medianOf rounds: [MachineLimits]) {
    var peak: [Arithmetic: Double] = [:]
    for arithmetic in Arithmetic.allCases {
      peak[arithmetic] = BenchFigures.median(rounds.compactMap { $0.peak[arithmetic] })
    }
    self.init(
      readBandwidth: BenchFigures.median(rounds.map(\.readBandwidth)) ?? 0, peak: peak)
  }
}
