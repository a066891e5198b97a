import CNibble
import Foundation
import Testing

@testable import NibbleTensor

/// The caches that quantize keys in groups of tokens, int4 and int3, against their law in double.
@Suite struct GroupedCacheTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var heads = 4
    var keyHeads = 2
    var headSize: Int
    var window: Int?
    var testDescription: String {
      "\(heads)/\(keyHeads) heads of \(headSize), window \(window ?? 0)"
    }

    var attention: Attention {
      Attention(heads: heads, keyHeads: keyHeads, headSize: headSize, window: window)
    }
  }

  static let cases = [
    Case(headSize: 64), Case(heads: 3, keyHeads: 1, headSize: 80), Case(headSize: 96, window: 45),
    Case(heads: 2, keyHeads: 2, headSize: 128), Case(heads: 2, keyHeads: 1, headSize: 256),
    Case(headSize: 6, window: 7),
  ]
  static let formats = [(format: CacheFormat.int4, most: 15), (.int3, 7)]

  /// Queries, keys and values of some tokens. Some channels of keys are far from zero, as those of
  /// models are.
  private struct Rows {
    let c: Case
    var (queries, keys, values): ([Float], [Float], [Float])

    init(_ c: Case, _ tokens: Int, seed: UInt64) {
      self.c = c
      queries = uniform(tokens * c.heads * c.headSize, seed: seed, times: 2)
      keys = uniform(tokens * c.keyHeads * c.headSize, seed: seed + 1, times: 2)
      values = uniform(tokens * c.keyHeads * c.headSize, seed: seed + 2)
      for i in keys.indices where i % 5 == 0 { keys[i] = 3 + keys[i] / 4 }
    }

    var tokens: Int { queries.count / (c.heads * c.headSize) }

    subscript(_ range: Range<Int>) -> Rows {
      var part = self
      let (width, keyWidth) = (c.heads * c.headSize, c.keyHeads * c.headSize)
      part.queries = Array(queries[range.lowerBound * width..<range.upperBound * width])
      let kept = range.lowerBound * keyWidth..<range.upperBound * keyWidth
      (part.keys, part.values) = (Array(keys[kept]), Array(values[kept]))
      return part
    }
  }

  /// Stores rows and returns what their queries attend to.
  private func append(_ rows: Rows, to store: KeyValueStore, at position: Int, threads: Int = 1)
    -> [Float]
  {
    let compute = Compute(threads: threads, precision: .f32)
    store.store(keys: rows.keys.span, values: rows.values.span, at: position, on: compute)
    var out = [Float](repeating: .nan, count: rows.queries.count)
    var span = out.mutableSpan
    store.attention.attend(
      rows.queries.span, store, from: position, keys: rows.keys.span, values: rows.values.span,
      into: &span, on: compute)
    return out
  }

  private func append(_ rows: Rows, to store: KeyValueStore, parts: [Int]) -> [Float] {
    var (out, at): ([Float], Int) = ([], 0)
    for part in parts {
      out += append(rows[at..<at + part], to: store, at: at, threads: 1 + part % 3)
      at += part
    }
    #expect(at == rows.tokens)
    return out
  }

  private func pages(_ store: KeyValueStore, _ tokens: Int) -> [UInt32] {
    let size = KeyValueStore.page * store.attention.headSize
    var all: [UInt32] = []
    // Only whole groups: what stands in others depends on what was there before.
    for at in stride(from: 0, to: tokens / 64 * 64, by: KeyValueStore.page) {
      for head in 0..<store.attention.keyHeads {
        for isKey in [true, false] {
          var page = [Float](repeating: 0, count: size)
          unsafe page.withUnsafeMutableBufferPointer {
            unsafe store.load(at, head, isKey: isKey, into: $0.baseAddress!)
          }
          all += page.bits
        }
      }
    }
    return all
  }

  private func half(_ x: Float) -> Float {
    FloatFormat.f16.decode(Bytes(FloatFormat.f16.encode([x].span)))[0]
  }

  /// A group as it is read: `code · scale + min`, with the scale and the minimum in float16.
  private func rounded(_ x: [Float], most: Int) -> [Double] {
    let low = half(x.min()!)
    let scale = half((x.max()! - low) / Float(most))
    guard scale > 0 else { return x.map { _ in Double(low) } }
    return x.map {
      let code = (($0 - low) / scale).rounded(.toNearestOrEven)
      return Double(min(max(code, 0), Float(most))) * Double(scale) + Double(low)
    }
  }

  /// What each query attends to, one at a time, in double.
  private func oracle(_ rows: Rows, most: Int) -> [Double] {
    let (c, d, group) = (rows.c, rows.c.headSize, 32)
    let width = c.keyHeads * d
    var (keys, values) = (rows.keys.map(Double.init), rows.values.map(Double.init))
    for first in stride(from: 0, to: rows.tokens / group * group, by: group) {
      for i in 0..<width {
        let at = (first..<first + group).map { $0 * width + i }
        for (at, x) in zip(at, rounded(at.map { rows.keys[$0] }, most: most)) { keys[at] = x }
      }
    }
    for token in 0..<rows.tokens {
      for head in 0..<c.keyHeads {
        for first in stride(from: 0, to: d, by: group) {
          let start = token * width + head * d + first
          let part = start..<start + min(group, d - first)
          values.replaceSubrange(part, with: rounded(Array(rows.values[part]), most: most))
        }
      }
    }
    var out: [Double] = []
    for token in 0..<rows.tokens {
      let seen = max(0, token + 1 - (c.window ?? .max))...token
      for head in 0..<c.heads {
        let from = head / (c.heads / c.keyHeads) * d
        let query = (token * c.heads + head) * d
        func isFloat(_ at: Int) -> Bool { at < group || at / group == token / group }
        let scores = seen.map { at in
          (0..<d).reduce(0.0) {
            let i = at * width + from + $1
            return $0 + Double(rows.queries[query + $1])
              * (isFloat(at) ? Double(rows.keys[i]) : keys[i])
          } / Double(d).squareRoot()
        }
        let weights = scores.map { exp($0 - scores.max()!) }
        let sum = weights.reduce(0, +)
        out += (0..<d).map { i in
          zip(seen, weights).reduce(0.0) {
            let i = $1.0 * width + from + i
            return $0 + $1.1 / sum * (isFloat($1.0) ? Double(rows.values[i]) : values[i])
          }
        }
      }
    }
    return out
  }

  @Test(arguments: cases, formats)
  func attendsToFloatsOfItsOwnGroupAndCodesOfOthers(
    _ c: Case, _ kept: (format: CacheFormat, most: Int)
  ) {
    let rows = Rows(c, 163, seed: 70)
    let expected = oracle(rows, most: kept.most)
    let cuts = [
      [163], [Int](repeating: 1, count: 163), [20, 100, 43], [64, 9, 1, 30, 59],
      [31, 1, 96, 8, 27], [5, 8, 8, 8, 8, 8, 51, 67], [150, 13],
    ]
    for parts in cuts {
      let store = KeyValueStore(c.attention, capacity: 170, format: kept.format)
      let found = append(rows, to: store, parts: parts)
      let far = zip(found, expected).map { abs(Double($0) - $1) }.max()!
      // Scores up to 40 in float are off by 1e-5 and their exponentials by as much of themselves;
      // values are below 1.
      #expect(far < 4e-5, "in parts of \(parts)")
    }
  }

  @Test(arguments: cases)
  func anyCutStoresTheSameCodesAndStepsGiveTheSameBits(_ c: Case) {
    let rows = Rows(c, 140, seed: 80)
    let single = KeyValueStore(c.attention, capacity: 140, format: .int4)
    let expected = append(rows, to: single, parts: [Int](repeating: 1, count: 140))
    for parts in [[140], [7, 70, 63], [33, 64, 43], [63, 2, 75]] {
      let store = KeyValueStore(c.attention, capacity: 140, format: .int4)
      _ = append(rows, to: store, parts: parts)
      #expect(pages(store, 140) == pages(single, 140), "in parts of \(parts)")
    }
    for step in [3, 7, 8] {
      let store = KeyValueStore(c.attention, capacity: 140, format: .int4)
      let parts = (0..<140 / step).map { _ in step } + [140 % step].filter { $0 > 0 }
      #expect(append(rows, to: store, parts: parts).bits == expected.bits, "steps of \(step)")
    }
  }

  /// Other tokens are stored, taken back to where `resumable` says, and stored again.
  @Test(
    arguments: cases, [(97, 1), (97, 2), (128, 8), (131, 31), (131, 33), (140, 70), (140, 139)])
  func tokensTakenBackLeaveNoTrace(_ c: Case, _ place: (end: Int, back: Int)) {
    let (rows, others) = (Rows(c, 150, seed: 90), Rows(c, 150, seed: 95))
    let fresh = KeyValueStore(c.attention, capacity: 150, format: .int4)
    let expected = append(rows, to: fresh, parts: [Int](repeating: 1, count: 150))
    for step in [1, 8] {
      let store = KeyValueStore(c.attention, capacity: 150, format: .int4)
      let right = place.end - place.back
      // Tokens before `right` in one piece, others behind them.
      _ = append(rows[0..<right], to: store, at: 0)
      for at in stride(from: right, to: place.end, by: step) {
        _ = append(others[at..<min(at + step, place.end)], to: store, at: at)
      }
      let start = store.resumable(right)
      #expect(start <= right && right - start < 32 && start >= 0)
      if place.back <= 33 || right < 32 || right.isMultiple(of: 32) { #expect(start == right) }
      var out: [Float] = []
      for at in stride(from: start, to: 150, by: step) {
        out += append(rows[at..<min(at + step, 150)], to: store, at: at)
      }
      #expect(out.bits == Array(expected[start * c.heads * c.headSize..<expected.count]).bits)
      #expect(pages(store, 150) == pages(fresh, 150))
    }
  }

  /// `|x - x̂|` is at most half a step, `(max - min) / (2 · most)`, and what float16 adds.
  @Test(arguments: formats, [2, 16, 64, 66, 80, 96, 256])
  func codesAreWithinHalfAStep(_ kept: (format: CacheFormat, most: Int), _ d: Int) {
    let page = KeyValueStore.page
    var rows = uniform(page * d, seed: 60, times: 3)
    for i in rows.indices {
      switch i % d % 7 {
      case 1: rows[i] = 40 + rows[i]
      case 2: rows[i] = -7
      case 3: rows[i] = 0
      case 4: rows[i] *= 1e3
      default: break
      }
    }
    for isKey in [true, false] {
      var memory = [UInt8](repeating: 0xA5, count: nibble_cache_bytes(kept.format.code, d))
      var out = [Float](repeating: .nan, count: page * d)
      unsafe rows.withUnsafeBufferPointer { rows in
        for token in 0..<page {
          let row = unsafe rows.baseAddress! + token * d
          if isKey, token % 32 == 0 {
            unsafe nibble_cache_store_keys(row, d, &memory, kept.format.code, token, d, 0)
          } else if !isKey {
            unsafe nibble_cache_store(row, &memory, kept.format.code, token, d, 0, 0)
          }
        }
      }
      unsafe nibble_cache_load(memory, &out, kept.format.code, d, isKey ? 1 : 0)
      // The largest error beside its bound.
      var worst: Float = 0
      for token in 0..<page {
        for i in 0..<d {
          let members =
            isKey
            ? (0..<32).map { (token / 32 * 32 + $0) * d + i }
            : (i / 32 * 32..<min(d, i / 32 * 32 + 32)).map { token * d + $0 }
          let group = members.map { rows[$0] }
          let (low, high) = (group.min()!, group.max()!)
          let step = (high - low) / Float(kept.most)
          let found = isKey ? out[i * page + token] : out[token * d + i]
          let slack = (abs(low) + high - low) / 2048
          worst = max(worst, abs(found - rows[token * d + i]) / (step / 2 + slack + 1e-7))
        }
      }
      #expect(worst <= 1, "keys: \(isKey)")
    }
  }

  /// Values that are codes themselves: scale 1, minimum 0.
  @Test(arguments: formats)
  func everyCodeReturnsToItsPlace(_ kept: (format: CacheFormat, most: Int)) {
    let (page, d) = (KeyValueStore.page, 64)
    let rows = (0..<page * d).map { i -> Float in
      let (token, channel) = (i / d, i % d)
      // Every group of either kind has a code 0 and a largest one.
      return Float((token * 5 + channel * 3 + token / 8 + channel / 8) % (kept.most + 1))
    }
    var (keys, values) = (
      [UInt8](repeating: 0, count: nibble_cache_bytes(kept.format.code, d)),
      [UInt8](repeating: 0, count: nibble_cache_bytes(kept.format.code, d))
    )
    unsafe rows.withUnsafeBufferPointer { rows in
      for token in 0..<page {
        let row = unsafe rows.baseAddress! + token * d
        if token % 32 == 0 {
          unsafe nibble_cache_store_keys(row, d, &keys, kept.format.code, token, d, 0)
        }
        unsafe nibble_cache_store(row, &values, kept.format.code, token, d, 0, 0)
      }
    }
    var out = [Float](repeating: .nan, count: page * d)
    unsafe nibble_cache_load(values, &out, kept.format.code, d, 0)
    #expect(out == rows)
    unsafe nibble_cache_load(keys, &out, kept.format.code, d, 1)
    #expect((0..<page * d).map { out[$0 % d * page + $0 / d] } == rows)
  }

  /// Static scales take the place of those of groups: symmetric codes around zero.
  @Test func staticScalesAreUsed() {
    let c = Case(headSize: 16)
    let rows = Rows(c, 64, seed: 65)
    let store = KeyValueStore(
      c.attention, capacity: 64, format: .int4,
      scales: CacheScales(keys: [0.5, 0.25], values: [0.125, 0.25]))
    _ = append(rows, to: store, at: 0)
    for head in 0..<2 {
      for (isKey, scale) in [(true, [0.5, 0.25][head]), (false, [0.125, 0.25][head])] {
        var page = [Float](repeating: 0, count: 64 * 16)
        unsafe page.withUnsafeMutableBufferPointer {
          unsafe store.load(0, head, isKey: isKey, into: $0.baseAddress!)
        }
        for token in 32..<64 {
          for i in 0..<16 {
            let x = (isKey ? rows.keys : rows.values)[(token * 2 + head) * 16 + i]
            let code = min(max((Double(x) / scale).rounded(.toNearestOrEven), -8), 7)
            #expect(Double(isKey ? page[i * 64 + token] : page[token * 16 + i]) == code * scale)
          }
        }
      }
    }
  }
}
