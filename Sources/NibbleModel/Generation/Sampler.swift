import Foundation
import NibbleTensor

/// Chooses tokens; the same seed, logits and history give the same choices on every machine.
public struct Sampler: Sendable {
  private let sampling: Sampling
  private var random: SplitMix64
  /// The distinct tokens of the history, which only grows between choices.
  private var seen: Set<Int> = []
  /// How many tokens of the history are in `seen`.
  private var read = 0
  /// Reused memory for `[vocabulary]` values: logits after the repetition penalty, and scaled
  /// logits.
  private var penalized: [Float] = []
  private var scaled: [Float] = []

  public init(_ sampling: Sampling) {
    self.sampling = sampling
    random = SplitMix64(state: sampling.seed)
  }

  /// The order is: repetition penalty, temperature, top-k, top-p, min-p, draw.
  ///
  /// - Parameters:
  ///   - logits: `[vocabulary]`, finite, at least one.
  ///   - history: tokens so far, prompt and answer. It must extend the history of the last choice.
  public mutating func choose(_ logits: [Float], history: [Int]) -> Int {
    guard sampling.repetitionPenalty != 1 else { return draw(logits.span) }
    if history.count < read { (seen, read) = ([], 0) }
    seen.formUnion(history[read...])
    read = history.count
    var penalized: [Float] = []
    swap(&penalized, &self.penalized)
    penalized.removeAll(keepingCapacity: true)
    penalized += logits
    for token in seen where penalized.indices.contains(token) {
      penalized[token] *=
        penalized[token] > 0 ? 1 / sampling.repetitionPenalty : sampling.repetitionPenalty
    }
    defer { self.penalized = penalized }
    return draw(penalized.span)
  }

  private mutating func draw(_ logits: Span<Float>) -> Int {
    let likeliest = Logits.argmax(logits)
    guard sampling.temperature > 0 else { return likeliest }
    let point = random.nextUnit()
    // Sorting the whole vocabulary takes as long as one token of a small model, and unlikely tokens
    // are almost never chosen.
    for reach in [Self.nearReach, .infinity] {
      var near = Candidates(
        logits, peak: logits[likeliest], temperature: sampling.temperature, reach: reach)
      if let token = near.choice(sampling, at: point, logits, scaled: &scaled) { return token }
    }
    return likeliest
  }

  /// Tokens with weights below `exp(-12)` of the largest are considered only when needed.
  private static let nearReach: Float = 12
}

/// Tokens by falling weight `exp((logit - peak) / temperature)`, ties by smaller id, so that the
/// order is the same everywhere.
///
/// They are sorted lazily, only as far as a choice needs.
private struct Candidates {
  private struct Token {
    var id: Int
    var weight: Double

    func precedes(_ other: Token) -> Bool {
      weight == other.weight ? id < other.id : weight > other.weight
    }
  }

  /// The tokens sorted so far.
  private var ordered: [Token] = []
  /// A heap of the remaining tokens, the next one first.
  private var heap: [Token] = []
  private let count: Int
  private let peak: Float
  private let temperature: Float
  /// Smallest weight that is included.
  private let floor: Double
  private let isAll: Bool

  init(_ logits: Span<Float>, peak: Float, temperature: Float, reach: Float) {
    func weight(_ logit: Float) -> Double { exp(Double((logit - peak) / temperature)) }
    let lowest = peak - reach * temperature
    for id in logits.indices where logits[id] >= lowest {
      heap.append(Token(id: id, weight: weight(logits[id])))
    }
    count = heap.count
    isAll = count == logits.count
    floor = weight(lowest)
    self.peak = peak
    self.temperature = temperature
    for parent in (0..<count / 2).reversed() { sink(parent) }
  }

  private mutating func sink(_ parent: Int) {
    var parent = parent
    while true {
      var first = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && heap[child].precedes(heap[first]) { first = child }
      guard first != parent else { return }
      heap.swapAt(parent, first)
      parent = first
    }
  }

  /// The first `count` tokens, in order.
  private mutating func first(_ count: Int) -> ArraySlice<Token> {
    while ordered.count < count, let next = heap.first {
      ordered.append(next)
      let last = heap.removeLast()
      if !heap.isEmpty {
        heap[0] = last
        sink(0)
      }
    }
    return ordered.prefix(count)
  }

  /// Sum of all weights, including those of tokens left out.
  private mutating func mass(_ logits: Span<Float>, scaled: inout [Float]) -> Double {
    if isAll { return first(count).reduce(0) { $0 + $1.weight } }
    scaled.removeAll(keepingCapacity: true)
    for id in logits.indices { scaled.append((logits[id] - peak) / temperature) }
    return exp(Logits.logSumExp(scaled.span))
  }

  /// The token at `point`, in 0..<1, of the cumulative kept weights; nil when it may have been left
  /// out.
  mutating func choice(
    _ sampling: Sampling, at point: Double, _ logits: Span<Float>, scaled: inout [Float]
  ) -> Int? {
    // The number of kept tokens, the sum of their weights, and whether both are final.
    var kept = count
    var mass: Double
    var isWhole = isAll
    if let topK = sampling.topK {
      guard topK <= count || isAll else { return nil }
      kept = min(topK, count)
      mass = first(kept).reduce(0) { $0 + $1.weight }
      isWhole = true
    } else {
      mass = self.mass(logits, scaled: &scaled)
    }
    if sampling.topP < 1 {
      var (sum, reached) = (0.0, 0)
      while reached < kept, sum < Double(sampling.topP) * mass || reached == 0 {
        reached += 1
        sum += first(reached)[reached - 1].weight
      }
      if sum >= Double(sampling.topP) * mass {
        kept = reached
        mass = sum
        isWhole = true
      }
      guard isWhole else { return nil }
    }
    if sampling.minP > 0 {
      guard isWhole || Double(sampling.minP) >= floor else { return nil }
      var likely = 0
      while likely < kept, first(likely + 1)[likely].weight >= Double(sampling.minP) { likely += 1 }
      kept = likely
      mass = first(kept).reduce(0) { $0 + $1.weight }
      isWhole = true
    }
    var left = point * mass
    for index in 0..<kept {
      let token = first(index + 1)[index]
      left -= token.weight
      if left < 0 { return token.id }
    }
    return isWhole && kept > 0 ? first(kept)[kept - 1].id : nil
  }
}
