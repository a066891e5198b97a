import Foundation
import NibbleTensor

/// Chooses tokens; the same seed, logits and history give the same choices on every machine.
public struct Sampler: Sendable {
  private let sampling: Sampling
  private var random: SplitMix64

  public init(_ sampling: Sampling) {
    self.sampling = sampling
    random = SplitMix64(state: sampling.seed)
  }

  /// The order is: repetition penalty, temperature, top-k, top-p, min-p, draw.
  ///
  /// - Parameters:
  ///   - logits: `[vocabulary]`, finite, at least one.
  ///   - history: tokens seen so far, prompt and answer.
  public mutating func choose(_ logits: [Float], history: [Int]) -> Int {
    var logits = logits
    if sampling.repetitionPenalty != 1 {
      for token in Set(history) where logits.indices.contains(token) {
        logits[token] *=
          logits[token] > 0 ? 1 / sampling.repetitionPenalty : sampling.repetitionPenalty
      }
    }
    guard sampling.temperature > 0 else { return Logits.argmax(logits.span) }
    let point = random.nextUnit()
    let peak = logits.max() ?? 0
    // Sorting a whole vocabulary takes as long as a small model takes for a token, and the choice hardly
    // ever falls among the unlikely.
    for reach in [Self.nearReach, .infinity] {
      let near = Candidates(logits, peak: peak, temperature: sampling.temperature, reach: reach)
      if let token = near.choice(sampling, at: point) { return token }
    }
    return Logits.argmax(logits.span)
  }

  /// Weights below `exp(-12)` of the largest are looked at only when they are needed.
  private static let nearReach: Float = 12
}

/// Tokens by falling weight `exp((logit - peak) / temperature)`, the smaller id first where they tie, so
/// that the order is the same everywhere.
private struct Candidates {
  private let tokens: [(id: Int, weight: Double)]
  /// Least weight that is among them.
  private let floor: Double
  private let isAll: Bool
  /// Sum of all weights, those that are not among them too.
  private let mass: Double

  init(_ logits: [Float], peak: Float, temperature: Float, reach: Float) {
    func weight(_ logit: Float) -> Double { exp(Double((logit - peak) / temperature)) }
    var tokens: [(id: Int, weight: Double)] = []
    let lowest = peak - reach * temperature
    for id in logits.indices where logits[id] >= lowest {
      tokens.append((id, weight(logits[id])))
    }
    tokens.sort { $0.weight == $1.weight ? $0.id < $1.id : $0.weight > $1.weight }
    self.tokens = tokens
    isAll = tokens.count == logits.count
    floor = weight(lowest)
    if isAll {
      mass = tokens.reduce(0) { $0 + $1.weight }
    } else {
      let scaled = logits.map { ($0 - peak) / temperature }
      mass = exp(Logits.logSumExp(scaled.span))
    }
  }

  /// The token at `point`, in 0..<1, of the kept weights; nil when it may not be among these.
  func choice(_ sampling: Sampling, at point: Double) -> Int? {
    var kept = tokens[...]
    var mass = mass
    var isWhole = isAll
    if let topK = sampling.topK, topK <= tokens.count || isAll {
      kept = kept.prefix(topK)
      mass = kept.reduce(0) { $0 + $1.weight }
      isWhole = true
    } else if sampling.topK != nil {
      return nil
    }
    if sampling.topP < 1 {
      var sum = 0.0
      let last = kept.firstIndex { candidate in
        sum += candidate.weight
        return sum >= Double(sampling.topP) * mass
      }
      if let last {
        kept = kept[...last]
        mass = sum
        isWhole = true
      }
      guard isWhole else { return nil }
    }
    if sampling.minP > 0 {
      guard isWhole || Double(sampling.minP) >= floor else { return nil }
      kept = kept.prefix { $0.weight >= Double(sampling.minP) }
      mass = kept.reduce(0) { $0 + $1.weight }
      isWhole = true
    }
    var left = point * mass
    for candidate in kept {
      left -= candidate.weight
      if left < 0 { return candidate.id }
    }
    return isWhole ? kept.last?.id : nil
  }
}

/// A small generator with a fixed sequence. Source: Steele, Lea and Flood, OOPSLA 2014.
struct SplitMix64: Sendable {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// In 0..<1, 53 bits.
  mutating func nextUnit() -> Double { Double(next() >> 11) * 0x1p-53 }
}
