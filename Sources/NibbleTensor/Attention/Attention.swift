import CNibble
import Foundation

/// Causal attention with grouped queries over a KV cache.
public struct Attention: Hashable, Sendable {
  public var heads: Int
  /// Heads of keys and of values; each serves `heads / keyHeads` query heads.
  public var keyHeads: Int
  public var headSize: Int
  /// Length of the sliding window: how many positions a token sees, itself included; nil for all.
  public var window: Int?
  /// Factor of the scores `q · k`.
  public var scale: Float
  /// Scores become `c · tanh(s / c)`, after the scale and before the mask; nil leaves them.
  /// Source: Gemma 2, arXiv 2408.00118, section 2.
  public var softCap: Float?
  /// `[heads]`: `slope · j` is added to the score of position `j`; nil adds nothing.
  /// Source: ALiBi, arXiv 2108.12409.
  public var slopes: [Float]?

  /// - Parameter scale: nil for `1 / sqrt(headSize)`.
  public init(
    heads: Int, keyHeads: Int, headSize: Int, window: Int? = nil, scale: Float? = nil,
    softCap: Float? = nil, slopes: [Float]? = nil
  ) {
    self.heads = heads
    self.keyHeads = keyHeads
    self.headSize = headSize
    self.window = window
    self.scale = scale ?? 1 / Float(headSize).squareRoot()
    self.softCap = softCap
    self.slopes = slopes
  }

  /// Channels of all query heads.
  public var queryWidth: Int { heads * headSize }
  /// Channels of all key heads, and of all values.
  public var keyWidth: Int { keyHeads * headSize }

  /// Whether scores are capped or biased after they are scaled.
  var changesScores: Bool { softCap != nil || slopes != nil }

  /// Applies scale, cap and position bias to the scores of one head, for positions from `start` on.
  func changeScores(
    _ scores: UnsafeMutablePointer<Float>, _ count: Int, head: Int, from start: Int
  ) {
    for i in 0..<count {
      var score = unsafe scores[i] * scale
      if let softCap { score = softCap * tanh(score / softCap) }
      if let slopes { score += slopes[head] * Float(start + i) }
      unsafe scores[i] = score
    }
  }

  /// `out[i] = softmax(scale · q[i] · Kᵀ) · V` over the positions that token `position + i` sees.
  ///
  /// Works in slabs of queries, so memory grows linearly with the context. Up to eight tokens are
  /// computed in float, each by itself; on tiles both factors of each product are rounded to the
  /// precision of `compute`.
  ///
  /// - Parameters:
  ///   - queries: `[t, heads · d]`, for the positions from `position` on, whose keys and values are
  ///     stored already.
  ///   - keys: `[t, keyHeads · d]`, those that were stored for these positions. Read only where a
  ///     store has groups of tokens, see ``KeyValueStore``; so are the values.
  ///   - sinks: `[heads]`: one extra score per head that has no value; nil for none. Source:
  ///     gpt-oss.
  ///   - out: `[t, heads · d]`, overwritten.
  public func attend(
    _ queries: Span<Float>, _ store: KeyValueStore, from position: Int, keys: Span<Float>,
    values: Span<Float>, sinks: [Float]? = nil, into out: inout MutableSpan<Float>,
    on compute: Compute
  ) {
    let width = heads * headSize
    let t = queries.count / width
    precondition(queries.count == t * width && out.count == queries.count, "rows of \(width)")
    precondition(store.attention == self, "a store for another attention")
    precondition(position + t <= store.capacity, "\(position) + \(t) of \(store.capacity)")
    precondition(
      keys.count == t * keyWidth && values.count == keys.count, "keys and values of \(t) tokens")
    guard t > 0 else { return }
    unsafe queries.withUnsafeBufferPointer { queries in
      unsafe out.withUnsafeMutableBufferPointer { out in
        let (queries, out) = (queries.baseAddress!, out.baseAddress!)
        if t <= Compute.stepTokens {
          unsafe attendSteps(
            queries, store, from: position, tokens: t, sinks: sinks, into: out, on: compute)
        } else if compute.usesTiles, !changesScores, sinks == nil, store.floats == nil {
          unsafe attendOnTiles(queries, store, from: position, tokens: t, into: out, on: compute)
        } else {
          unsafe keys.withUnsafeBufferPointer { keys in
            unsafe values.withUnsafeBufferPointer { values in
              unsafe attendPlainly(
                queries, store,
                OwnGroup(
                  store, latest: (keys.baseAddress!, values.baseAddress!), from: position),
                from: position, tokens: t, sinks: sinks, into: out, on: compute)
            }
          }
        }
      }
    }
  }

  /// `attend` by oneDNN, with all keys and values widened to float.
  private func attendPlainly(
    _ queries: UnsafePointer<Float>, _ store: KeyValueStore, _ own: OwnGroup?,
    from position: Int, tokens t: Int, sinks: [Float]?, into out: UnsafeMutablePointer<Float>,
    on compute: Compute
  ) {
    let (width, page, d) = (heads * headSize, KeyValueStore.page, headSize)
    let pages = (position + t + page - 1) / page
    let headCount = pages * page * d
    let keys = unsafe compute.scratch.take(.weights, 2 * keyHeads * headCount * 4)
      .assumingMemoryBound(to: Float.self)
    let values = unsafe keys + keyHeads * headCount
    compute.pool.run(keyHeads * pages) { task, _ in
      let (head, index) = (task / pages, task % pages)
      unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: page * d) { across in
        unsafe store.load(index * page, head, isKey: true, into: across.baseAddress!)
        let out = unsafe keys + head * headCount + index * page * d
        for i in 0..<d {
          for token in 0..<page { unsafe out[token * d + i] = across[i * page + token] }
        }
      }
      unsafe store.load(
        index * page, head, isKey: false, into: values + head * headCount + index * page * d)
    }
    let grain = 128
    let slabs = (t + grain - 1) / grain
    let scoreCount = min(t, grain) * (position + t)
    let scores = unsafe compute.scratch.take(.scores, scoreCount * compute.pool.threads * 4)
      .assumingMemoryBound(to: Float.self)
    compute.pool.run(slabs * heads) { task, worker in
      let head = task % heads
      // The longest slabs first: the last ones fill the gaps between threads.
      let first = (slabs - 1 - task / heads) * grain
      let kept = head / (heads / keyHeads) * headCount
      unsafe attendSlab(
        queries + first * width + head * d, keys + kept, values + kept,
        scores + worker * scoreCount, out + first * width + head * d,
        own, tokens: min(grain, t - first), from: position + first, head: head,
        sink: sinks?[head])
    }
  }

  private func attendSlab(
    _ q: UnsafePointer<Float>, _ k: UnsafePointer<Float>, _ v: UnsafePointer<Float>,
    _ scores: UnsafeMutablePointer<Float>, _ out: UnsafeMutablePointer<Float>, _ own: OwnGroup?,
    tokens: Int, from position: Int, head: Int, sink: Float?
  ) {
    let seen = seen(by: tokens, from: position)
    unsafe weigh(q, k, scores, own, tokens: tokens, from: position, head: head, sink: sink)
    guard let own else {
      return unsafe PlainProduct.multiply(
        scores, v + seen.lowerBound * headSize, out, tokens, headSize, seen.count,
        aStride: seen.count, yStride: heads * headSize)
    }
    unsafe withUnsafeTemporaryAllocation(
      of: Float.self, capacity: tokens * KeyValueStore.group
    ) { weights in
      let weights = weights.baseAddress!
      for token in 0..<tokens {
        let row = unsafe scores + token * seen.count - seen.lowerBound
        for (i, at) in own.positions(at: position + token, of: seen).enumerated() {
          unsafe weights[token * KeyValueStore.group + i] = row[at]
          unsafe row[at] = 0
        }
      }
      unsafe PlainProduct.multiply(
        scores, v + seen.lowerBound * headSize, out, tokens, headSize, seen.count,
        aStride: seen.count, yStride: heads * headSize)
      for token in 0..<tokens {
        unsafe own.mix(
          weights + token * KeyValueStore.group, of: seen, at: position + token,
          keyHead: head / (heads / keyHeads), into: out + token * heads * headSize)
      }
    }
  }

  /// The positions that at least one of some neighbouring tokens sees.
  func seen(by tokens: Int, from position: Int) -> Range<Int> {
    max(0, position + 1 - (window ?? .max))..<position + tokens
  }

  /// The weights of neighbouring tokens for the positions they see, 0 for those that a token does
  /// not see.
  ///
  /// - Parameters:
  ///   - q: their queries, in rows of all heads.
  ///   - k: keys of this head from position 0 on, `[positions, d]`.
  ///   - weights: receives `[tokens, seen(by:from:).count]`.
  ///   - own: the keys that are read in float instead; nil for none.
  func weigh(
    _ q: UnsafePointer<Float>, _ k: UnsafePointer<Float>, _ weights: UnsafeMutablePointer<Float>,
    _ own: OwnGroup? = nil, tokens: Int, from position: Int, head: Int, sink: Float?
  ) {
    let range = seen(by: tokens, from: position)
    let (start, length) = (range.lowerBound, range.count)
    let alpha = changesScores ? 1 : scale
    unsafe PlainProduct.multiplyTransposed(
      q, k + start * headSize, weights, tokens, length, headSize, alpha: alpha,
      aStride: heads * headSize, yStride: length)
    for token in 0..<tokens {
      let row = unsafe weights + token * length
      unsafe own?.score(
        row, of: range, q + token * heads * headSize, at: position + token,
        keyHead: head / (heads / keyHeads), alpha: alpha)
      let seen = position + token + 1 - start
      let hidden = max(0, seen - (window ?? .max))
      for i in 0..<hidden { unsafe row[i] = 0 }
      if changesScores {
        unsafe changeScores(row + hidden, seen - hidden, head: head, from: start + hidden)
      }
      let sinkShare = sink.map {
        unsafe 1 + exp(Double($0) - nibble_log_sum_exp(row + hidden, seen - hidden))
      }
      unsafe nibble_softmax(row + hidden, seen - hidden)
      if let sinkShare { unsafe nibble_scale(row + hidden, Float(1 / sinkShare), seen - hidden) }
      for i in seen..<length { unsafe row[i] = 0 }
    }
  }
}
