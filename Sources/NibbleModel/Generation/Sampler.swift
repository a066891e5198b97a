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
  ///   - logits: `[vocabulary]`, finite.
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
    let peak = logits.max() ?? 0
    // Ties go to the smaller id, so that the order is the same everywhere.
    var candidates = logits.indices.map { id in
      (id: id, weight: exp(Double((logits[id] - peak) / sampling.temperature)))
    }
    candidates.sort { $0.weight == $1.weight ? $0.id < $1.id : $0.weight > $1.weight }
    if let topK = sampling.topK { candidates = Array(candidates.prefix(topK)) }
    if sampling.topP < 1 {
      let total = candidates.reduce(0) { $0 + $1.weight }
      var sum = 0.0
      let last = candidates.firstIndex { candidate in
        sum += candidate.weight
        return sum >= Double(sampling.topP) * total
      }
      candidates = Array(candidates.prefix((last ?? candidates.count - 1) + 1))
    }
    if sampling.minP > 0 {
      candidates = candidates.filter { $0.weight >= Double(sampling.minP) }
    }
    let total = candidates.reduce(0) { $0 + $1.weight }
    var left = random.nextUnit() * total
    for candidate in candidates {
      left -= candidate.weight
      if left < 0 { return candidate.id }
    }
    return candidates.last?.id ?? 0
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
