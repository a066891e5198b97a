import Foundation
import NibbleTensor
import Testing

/// Attention and rotation against their formulas in double.
@Suite struct AttentionTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var heads: Int
    var keyHeads: Int
    var headSize: Int
    var tokens: Int
    var position: Int
    var window: Int?
    var testDescription: String {
      "\(heads)/\(keyHeads) heads of \(headSize), \(tokens) at \(position), window \(window ?? 0)"
    }
  }

  static let cases = [
    Case(heads: 1, keyHeads: 1, headSize: 8, tokens: 1, position: 0),
    Case(heads: 4, keyHeads: 2, headSize: 16, tokens: 1, position: 37),
    Case(heads: 4, keyHeads: 1, headSize: 16, tokens: 33, position: 0),
    Case(heads: 6, keyHeads: 3, headSize: 12, tokens: 5, position: 31),
    Case(heads: 2, keyHeads: 2, headSize: 8, tokens: 128, position: 0),
    Case(heads: 2, keyHeads: 1, headSize: 8, tokens: 129, position: 3),
    Case(heads: 2, keyHeads: 1, headSize: 8, tokens: 257, position: 40),
    Case(heads: 2, keyHeads: 1, headSize: 8, tokens: 257, position: 40, window: 33),
    Case(heads: 4, keyHeads: 2, headSize: 16, tokens: 1, position: 37, window: 7),
    Case(heads: 4, keyHeads: 2, headSize: 16, tokens: 40, position: 0, window: 1),
    Case(heads: 2, keyHeads: 2, headSize: 16, tokens: 20, position: 10, window: 1000),
  ]

  private struct Inputs {
    var queries: [Float]
    /// `[end, keyHeads · d]`, as the projections give them.
    var keys: [Float]
    var values: [Float]

    init(_ c: Case, seed: UInt64) {
      let rows = c.position + c.tokens
      queries = uniform(c.tokens * c.heads * c.headSize, seed: seed, times: 2)
      keys = uniform(rows * c.keyHeads * c.headSize, seed: seed + 1, times: 2)
      values = uniform(rows * c.keyHeads * c.headSize, seed: seed + 2)
    }
  }

  private func attend(
    _ c: Case, _ inputs: Inputs, threads: Int, keeping format: CacheFormat = .f32
  ) -> [Float] {
    let attention = Attention(
      heads: c.heads, keyHeads: c.keyHeads, headSize: c.headSize, window: c.window)
    let store = KeyValueStore(
      attention, capacity: c.position + c.tokens + 5, format: format)
    let split = c.position * c.keyHeads * c.headSize
    for (rows, at) in [(0..<split, 0), (split..<inputs.keys.count, c.position)] {
      store.store(
        keys: inputs.keys.span.extracting(rows), values: inputs.values.span.extracting(rows),
        at: at, on: Compute(threads: threads, precision: .f32))
    }
    var out = [Float](repeating: .nan, count: inputs.queries.count)
    var span = out.mutableSpan
    attention.attend(
      inputs.queries.span, store, from: c.position,
      keys: inputs.keys.span.extracting(split..<inputs.keys.count),
      values: inputs.values.span.extracting(split..<inputs.values.count), into: &span,
      on: Compute(threads: threads, precision: .f32))
    return out
  }

  @Test(arguments: cases)
  func attendsAsTheFormulaSays(_ c: Case) {
    let inputs = Inputs(c, seed: 30)
    let out = attend(c, inputs, threads: 1)
    let (d, keyWidth) = (c.headSize, c.keyHeads * c.headSize)
    // Tokens at both sides of every slab's edge.
    for token in Set([0, 1, 31, 126, 127, 128, 129, 255, 256, c.tokens - 1]) where token < c.tokens
    {
      let position = c.position + token
      let seen = max(0, position + 1 - (c.window ?? .max))...position
      for head in 0..<c.heads {
        let keyHead = head / (c.heads / c.keyHeads)
        let query = token * c.heads * d + head * d
        let scores = seen.map { other in
          (0..<d).reduce(0.0) {
            $0 + Double(inputs.queries[query + $1])
              * Double(inputs.keys[other * keyWidth + keyHead * d + $1])
          } / Double(d).squareRoot()
        }
        let peak = scores.max()!
        let weights = scores.map { exp($0 - peak) }
        let sum = weights.reduce(0, +)
        for i in 0..<d {
          let expected = zip(seen, weights).reduce(0.0) {
            $0 + $1.1 / sum * Double(inputs.values[$1.0 * keyWidth + keyHead * d + i])
          }
          // Scores up to 16 in float are off by 2e-6 and their exponentials by as much of
          // themselves; values are below 1.
          #expect(abs(Double(out[query + i]) - expected) < 1e-5, "token \(token), head \(head)")
        }
      }
    }
  }

  @Test(arguments: cases)
  func anyThreadCountGivesTheSameBits(_ c: Case) {
    let inputs = Inputs(c, seed: 40)
    #expect(attend(c, inputs, threads: 3).bits == attend(c, inputs, threads: 1).bits)
  }

  /// Keys and values within a step of their format: outputs move by no more than the values' steps and
  /// what the scores' errors shift between values below 1.
  @Test(
    arguments: cases,
    [(CacheFormat.f16, Float(0.004)), (.int8, 0.06), (.fp8, 0.25)])
  func formatsLoseLittle(_ c: Case, _ kept: (format: CacheFormat, bound: Float)) {
    guard c.headSize.isMultiple(of: 2) else { return }
    let inputs = Inputs(c, seed: 41)
    let exact = attend(c, inputs, threads: 2)
    let rounded = attend(c, inputs, threads: 2, keeping: kept.format)
    let far = zip(exact, rounded).map { abs($0 - $1) }.max() ?? 0
    #expect(far < kept.bound)
    #expect(kept.format == .f16 || far > 0)
  }

  /// A score far above the others takes everything: the exponentials must not overflow.
  @Test(arguments: [1, 9])
  func hugeScoresStayFinite(_ tokens: Int) {
    let c = Case(heads: 1, keyHeads: 1, headSize: 8, tokens: tokens, position: 3)
    var inputs = Inputs(c, seed: 50)
    inputs.queries = inputs.queries.map { _ in 1e4 }
    inputs.keys = inputs.keys.indices.map { $0 / 8 == 1 ? 1e4 : -1e4 }
    let out = attend(c, inputs, threads: 1)
    for token in 0..<tokens {
      #expect(Array(out[token * 8..<token * 8 + 8]) == Array(inputs.values[8..<16]))
    }
  }

  @Test(arguments: [1, 5, 32], [(0, 1), (7, 33)])
  func rotatesByTheAngleOfThePosition(_ half: Int, _ run: (start: Int, tokens: Int)) {
    let frequencies = (0..<half).map { pow(10000, -Float($0) / Float(half)) }
    let table = RotaryTable(frequencies: frequencies, positions: 3..<64)
    let start = run.start + 3
    let heads = 3
    let x = uniform(run.tokens * heads * 2 * half, seed: 60)
    var rotated = x
    var span = rotated.mutableSpan
    table.rotate(
      &span, heads: heads, headSize: 2 * half, from: start, on: Compute(threads: 2, precision: .f32)
    )
    for token in 0..<run.tokens {
      for head in 0..<heads {
        for i in 0..<half {
          let at = (token * heads + head) * 2 * half + i
          let angle = Double(Float(start + token) * frequencies[i])
          let (a, b) = (Double(x[at]), Double(x[at + half]))
          // Cosine, sine, two products and a sum round by 2^-24 of at most 1 each.
          #expect(abs(Double(rotated[at]) - (a * cos(angle) - b * sin(angle))) < 4e-7)
          #expect(abs(Double(rotated[at + half]) - (b * cos(angle) + a * sin(angle))) < 4e-7)
        }
      }
    }
  }

  @Test func positionZeroTurnsNothing() {
    let table = RotaryTable(frequencies: [1, 0.1], positions: 0..<1)
    var x = uniform(8, seed: 61)
    let before = x
    var span = x.mutableSpan
    table.rotate(&span, heads: 2, headSize: 4, from: 0, on: oneThread)
    #expect(x == before)
  }

  /// A step of several tokens, across a page and a stretch of the context.
  @Test(
    arguments: [CacheFormat.f32, .int8], [(0, nil), (60, nil), (250, nil), (700, 90), (250, 3)])
  func aStepsRowsAreThoseOfEachAlone(_ format: CacheFormat, _ place: (position: Int, window: Int?))
  {
    let c = Case(
      heads: 4, keyHeads: 2, headSize: 16, tokens: Compute.stepTokens, position: place.position,
      window: place.window)
    let inputs = Inputs(c, seed: 50)
    let attention = Attention(
      heads: c.heads, keyHeads: c.keyHeads, headSize: c.headSize, window: c.window)
    let store = KeyValueStore(attention, capacity: c.position + c.tokens, format: format)
    store.store(keys: inputs.keys.span, values: inputs.values.span, at: 0, on: oneThread)
    func attend(_ tokens: Range<Int>, threads: Int) -> [Float] {
      let (width, keyWidth) = (c.heads * c.headSize, c.keyHeads * c.headSize)
      let first = c.position + tokens.lowerBound
      let rows = first * keyWidth..<(first + tokens.count) * keyWidth
      var out = [Float](repeating: .nan, count: tokens.count * width)
      var span = out.mutableSpan
      attention.attend(
        inputs.queries.span.extracting(tokens.lowerBound * width..<tokens.upperBound * width),
        store, from: first,
        keys: inputs.keys.span.extracting(rows), values: inputs.values.span.extracting(rows),
        into: &span,
        on: Compute(threads: threads, precision: .f32))
      return out
    }
    let together = attend(0..<c.tokens, threads: 2)
    #expect(together.bits == (0..<c.tokens).flatMap { attend($0..<$0 + 1, threads: 1).bits })
  }
}
