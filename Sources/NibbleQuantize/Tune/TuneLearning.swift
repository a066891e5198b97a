import NibbleModel
import NibbleTensor

/// The steps that learn the scales and norms of a model, and the choice of the best. See `Tune`.
package struct TuneLearning {
  /// A measurement on the windows kept out.
  package struct Check: Codable, Hashable, Sendable {
    /// Steps before it.
    package var step: Int
    /// Mean loss of the steps since the check before; nil at the start.
    package var loss: Double?
    /// Mean KL divergence from the source on each set of windows, nats per token.
    package var divergences: [Double]
  }

  /// What is kept on disk, so that a killed run continues.
  package struct Progress: Codable, Hashable {
    package var checks: [Check]
    package var bestStep: Int
  }

  package let settings: Tune
  package private(set) var tuning: Tuning
  private let text: TuneText
  package private(set) var progress: Progress
  private var best: [Float]
  /// Divergences at each position of each set, at the start and of the best.
  private var atStart: [[Double]]
  private var ofBest: [[Double]]
  /// Whether a step led to values that are infinite or no numbers.
  package private(set) var hasDiverged = false

  package init(_ settings: Tune, _ tuning: Tuning, on text: TuneText) throws(QuantizeError) {
    self.settings = settings
    self.tuning = tuning
    self.text = text
    best = tuning.factors
    atStart = []
    ofBest = []
    progress = Progress(checks: [], bestStep: 0)
    atStart = try measure()
    ofBest = atStart
    progress.checks = [Check(step: 0, loss: nil, divergences: atStart.map(\.mean))]
    guard atStart.allSatisfy(\.mean.isFinite) else {
      throw .unmeasurable("the model's logits are not finite on the windows kept out")
    }
  }

  /// Divergences of each set with the present factors.
  private mutating func measure() throws(QuantizeError) -> [[Double]] {
    var found: [[Double]] = []
    for set in text.checked { found.append(tuning.divergences(on: try text.windows(set))) }
    return found
  }

  package var isFinished: Bool { hasDiverged || lastStep >= settings.steps }
  private var lastStep: Int { progress.checks.last?.step ?? 0 }

  /// Learns until the next check.
  package mutating func advance() throws(QuantizeError) {
    var losses: [Double] = []
    var step = lastStep
    let end = min(settings.steps, step + settings.checkEvery)
    while step < end {
      let batch = text.batch(step, tokens: settings.tokens)
      let left = 1 - Float(step) / Float(settings.steps)
      losses.append(
        tuning.learn(
          from: try text.windows(batch), rate: left * settings.rate,
          temperature: settings.temperature))
      step += 1
      guard losses.last?.isFinite == true else {
        hasDiverged = true
        return
      }
    }
    let found = try measure()
    let means = found.map(\.mean)
    guard means.allSatisfy(\.isFinite) else {
      hasDiverged = true
      return
    }
    progress.checks.append(Check(step: step, loss: losses.mean, divergences: means))
    if score(found) < score(ofBest) {
      best = tuning.factors
      ofBest = found
      progress.bestStep = step
    }
  }

  /// The divergence, as a share of that at the start, on the set on which it fell least.
  private func score(_ divergences: [[Double]]) -> Double {
    zip(divergences, atStart).map { $0.mean / $1.mean }.max() ?? 1
  }

  /// Whether the divergence of the best fell by two standard errors on every set.
  package var isBetter: Bool {
    zip(ofBest, atStart).allSatisfy { best, start in
      let change = zip(best, start).map { $0 - $1 }
      return change.mean < -2 * change.standardError
    }
  }

  /// The model with the best factors.
  package var chosen: Tuning {
    var chosen = tuning
    chosen.replaceFactors(by: best)
    return chosen
  }

  /// What the next step and the choice depend on.
  package var state: [[Float]] { tuning.state + [best] }

  /// Continues where `progress` and `state` were kept.
  package mutating func resume(_ progress: Progress, _ state: [[Float]]) throws(QuantizeError) {
    self.progress = progress
    best = state[3]
    tuning.replaceFactors(by: best)
    ofBest = try measure()
    tuning.state = Array(state[..<3])
    tuning.steps = lastStep
  }
}

extension [Double] {
  fileprivate var mean: Double { reduce(0, +) / Double(Swift.max(1, count)) }

  /// Of the mean.
  fileprivate var standardError: Double {
    guard count > 1 else { return 0 }
    let mean = mean
    let squares = reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    return (squares / Double(count - 1) / Double(count)).squareRoot()
  }
}
