import Foundation
import NibbleModel
import Testing

/// SplitMix64: a test that fails fails again.
struct Seeded: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

@Suite struct GenerationSamplerTests {
  private func logits(_ count: Int, seed: UInt64) -> [Float] {
    var random = Seeded(state: seed)
    return (0..<count).map { _ in Float.random(in: -4...4, using: &random) }
  }

  private func sampling(_ change: (inout Sampling) -> Void) -> Sampling {
    var sampling = Sampling()
    sampling.temperature = 1
    change(&sampling)
    return sampling
  }

  /// How often each id is chosen in `draws` draws.
  private func frequencies(
    _ logits: [Float], _ sampling: Sampling, history: [Int] = [], draws: Int = 4000
  ) -> [Int: Double] {
    var sampler = Sampler(sampling)
    var counts: [Int: Double] = [:]
    for _ in 0..<draws {
      counts[sampler.choose(logits, history: history), default: 0] += 1 / Double(draws)
    }
    return counts
  }

  private func probabilities(_ logits: [Float], temperature: Double = 1) -> [Double] {
    let peak = Double(logits.max() ?? 0)
    let weights = logits.map { exp((Double($0) - peak) / temperature) }
    let total = weights.reduce(0, +)
    return weights.map { $0 / total }
  }

  @Test(arguments: [0.5, 1, 2] as [Float])
  func tokensAreDrawnAsOftenAsTheirProbabilitySays(_ temperature: Float) {
    let logits = logits(9, seed: 5)
    let expected = probabilities(logits, temperature: Double(temperature))
    let found = frequencies(logits, sampling { $0.temperature = temperature })
    for id in logits.indices {
      // Five standard deviations of 4000 draws.
      let deviation = (expected[id] * (1 - expected[id]) / 4000).squareRoot()
      #expect(abs((found[id] ?? 0) - expected[id]) <= 5 * deviation, "\(id)")
    }
  }

  @Test(arguments: [1, 2, 5, 9, 100])
  func topKKeepsThatManyOfTheLikeliest(_ k: Int) {
    let logits = logits(9, seed: 6)
    let found = frequencies(logits, sampling { ($0.topK, $0.temperature) = (k, 50) })
    let order = logits.indices.sorted { logits[$0] > logits[$1] }
    #expect(Set(found.keys) == Set(order.prefix(k)))
  }

  @Test(arguments: [0.01, 0.3, 0.7, 0.95, 1] as [Float])
  func topPKeepsTheFewestThatReachTheSum(_ p: Float) {
    let logits = logits(12, seed: 7).map { $0 / 4 }
    let shares = probabilities(logits)
    var kept: Set<Int> = []
    var sum = 0.0
    for id in logits.indices.sorted(by: { shares[$0] > shares[$1] }) where sum < Double(p) {
      kept.insert(id)
      sum += shares[id]
    }
    #expect(Set(frequencies(logits, sampling { $0.topP = p }).keys) == kept)
  }

  @Test(arguments: [0, 0.2, 0.5, 1] as [Float])
  func minPKeepsWhatIsLikelyBesideTheLikeliest(_ p: Float) {
    let logits = logits(12, seed: 8).map { $0 / 4 }
    let shares = probabilities(logits)
    let kept = logits.indices.filter { shares[$0] >= Double(p) * shares.max()! }
    #expect(Set(frequencies(logits, sampling { $0.minP = p }).keys) == Set(kept))
  }

  /// Of a large vocabulary only the likely part is sorted; the choice is that of sorting it all.
  @Test(arguments: [0.3, 1, 4] as [Float])
  func aLargeVocabularyIsDrawnFromAsASortedOne(_ temperature: Float) {
    let settings: [(inout Sampling) -> Void] = [
      { _ in }, { $0.topK = 40 }, { $0.topK = 3000 }, { $0.topP = 0.9 }, { $0.topP = 0.9999999 },
      { $0.minP = 0.05 }, { $0.minP = 1e-9 }, { ($0.topK, $0.topP, $0.minP) = (500, 0.8, 1e-4) },
    ]
    for (number, change) in settings.enumerated() {
      var sampling = sampling(change)
      (sampling.temperature, sampling.seed) = (temperature, UInt64(number))
      var sampler = Sampler(sampling)
      var random = Seeded(state: UInt64(number))
      for draw in 0..<60 {
        let logits = logits(4000, seed: UInt64(draw)).map { $0 * $0 * $0 / 2 }
        let point = Double(random.next() >> 11) * 0x1p-53
        #expect(
          sampler.choose(logits, history: []) == sorted(logits, sampling, point), "\(number)")
      }
    }
  }

  /// The choice at `point`, by sorting everything.
  private func sorted(_ logits: [Float], _ sampling: Sampling, _ point: Double) -> Int {
    let peak = logits.max()!
    var kept = logits.indices.map { id in
      (id: id, weight: exp(Double((logits[id] - peak) / sampling.temperature)))
    }
    kept.sort { $0.weight == $1.weight ? $0.id < $1.id : $0.weight > $1.weight }
    if let topK = sampling.topK { kept = Array(kept.prefix(topK)) }
    if sampling.topP < 1 {
      let mass = kept.reduce(0) { $0 + $1.weight }
      var sum = 0.0
      kept = Array(
        kept.prefix { candidate in
          defer { sum += candidate.weight }
          return sum < Double(sampling.topP) * mass
        })
    }
    kept.removeAll { $0.weight < Double(sampling.minP) }
    var left = point * kept.reduce(0) { $0 + $1.weight }
    for candidate in kept {
      left -= candidate.weight
      if left < 0 { return candidate.id }
    }
    return kept.last!.id
  }

  @Test func theSameSeedDrawsTheSameAndAnotherDrawsAnother() {
    let logits = logits(50, seed: 9)
    func draws(_ seed: UInt64) -> [Int] {
      var sampler = Sampler(sampling { $0.seed = seed })
      return (0..<50).map { _ in sampler.choose(logits, history: []) }
    }
    #expect(draws(3) == draws(3))
    #expect(draws(3) != draws(4) && draws(0) != draws(1))
  }

  @Test func zeroTemperatureTakesTheFirstOfTheLargest() {
    var sampler = Sampler(Sampling())
    #expect(sampler.choose([1, 3, 3, 2], history: []) == 1)
    #expect(sampler.choose([-5], history: []) == 0)
    #expect(sampler.choose([-.infinity, -3, -.infinity], history: []) == 1)
  }

  @Test func aPenaltyMakesSeenTokensLessLikelyWhateverTheirSign() {
    // As transformers: positive logits divided, negative ones multiplied, each token once.
    var penalty = Sampling()
    penalty.repetitionPenalty = 2
    var sampler = Sampler(penalty)
    #expect(sampler.choose([4, 3], history: []) == 0)
    #expect(sampler.choose([4, 3], history: [0]) == 1)
    #expect(sampler.choose([4, 1.9], history: [0, 0, 0]) == 0)
    #expect(sampler.choose([-2, -3], history: [0]) == 1)
    #expect(sampler.choose([-2, -4.5], history: [0]) == 0)
    #expect(sampler.choose([4, 3], history: [0, 99, -1]) == 1)
    penalty.repetitionPenalty = 0.5
    sampler = Sampler(penalty)
    #expect(sampler.choose([4, 3], history: [1]) == 1)
  }

  @Test func thePenaltyComesBeforeTopK() {
    let found = frequencies(
      [4, 3, 2], sampling { ($0.repetitionPenalty, $0.topK) = (4, 1) }, history: [0], draws: 50)
    #expect(Array(found.keys) == [1])
  }
}
