public import NibbleTensor

/// Measures one or two sides in turn, each round in a separate process, and the limits of this
/// machine between the rounds.
public struct Bench {
  private let sides: [BenchSide]
  private let settings: BenchSettings
  private let rounds: Int

  /// - Parameter sides: this program, and optionally the peer that it is compared with.
  public init(_ sides: [BenchSide], _ settings: BenchSettings, rounds: Int) {
    precondition((1...2).contains(sides.count), "\(sides.count) sides")
    self.sides = sides
    self.settings = settings
    self.rounds = max(1, rounds)
  }

  /// - Parameters:
  ///   - compute: with as many threads as the sides have.
  ///   - progress: called after each process, with the round, the side and its figures.
  public func run(
    on compute: Compute, progress: (_ round: Int, _ side: Int, BenchFigures) -> Void,
    shouldStop: () -> Bool = { false }
  ) throws(ModelError) -> BenchReport {
    var figures = [[BenchFigures]](repeating: [], count: sides.count)
    var limits: [MachineLimits] = []
    for round in 0..<rounds {
      // Alternate the order so that cache and thermal effects hit both sides equally.
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
