import CNibble

/// Causal attention with grouped queries over keys and values that are kept.
public struct Attention: Hashable, Sendable {
  public var heads: Int
  /// Each serves `heads / keyHeads` query heads.
  public var keyHeads: Int
  public var headSize: Int
  /// How many positions a token sees, itself counted; nil for all before it.
  public var window: Int?

  public init(heads: Int, keyHeads: Int, headSize: Int, window: Int? = nil) {
    self.heads = heads
    self.keyHeads = keyHeads
    self.headSize = headSize
    self.window = window
  }

  /// `out[i] = softmax(q[i] · Kᵀ / sqrt(d)) · V` over the positions that token `position + i` sees.
  ///
  /// Works in slabs of queries, so memory grows with the context, not with its square. Up to eight
  /// tokens are computed in float, each alone; on tiles the factors of both products are rounded as
  /// the precision of `compute` says.
  ///
  /// - Parameters:
  ///   - queries: `[t, heads · d]`, for the positions from `position` on, whose keys and values are
  ///     stored already.
  ///   - out: `[t, heads · d]`, overwritten.
  public func attend(
    _ queries: Span<Float>, _ store: KeyValueStore, from position: Int,
    into out: inout MutableSpan<Float>, on compute: Compute
  ) {
    let width = heads * headSize
    let t = queries.count / width
    precondition(queries.count == t * width && out.count == queries.count, "rows of \(width)")
    precondition(store.attention == self, "a store for another attention")
    precondition(position + t <= store.capacity, "\(position) + \(t) of \(store.capacity)")
    guard t > 0 else { return }
    unsafe queries.withUnsafeBufferPointer { queries in
      unsafe out.withUnsafeMutableBufferPointer { out in
        let (queries, out) = (queries.baseAddress!, out.baseAddress!)
        if t <= Compute.stepTokens {
          unsafe attendSteps(queries, store, from: position, tokens: t, into: out, on: compute)
        } else if compute.usesTiles {
          unsafe attendOnTiles(queries, store, from: position, tokens: t, into: out, on: compute)
        } else {
          unsafe attendPlainly(queries, store, from: position, tokens: t, into: out, on: compute)
        }
      }
    }
  }

  /// `attend` by oneDNN, over all keys and values as floats.
  private func attendPlainly(
    _ queries: UnsafePointer<Float>, _ store: KeyValueStore, from position: Int, tokens t: Int,
    into out: UnsafeMutablePointer<Float>, on compute: Compute
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
        tokens: min(grain, t - first), from: position + first)
    }
  }

  private func attendSlab(
    _ q: UnsafePointer<Float>, _ k: UnsafePointer<Float>, _ v: UnsafePointer<Float>,
    _ scores: UnsafeMutablePointer<Float>, _ out: UnsafeMutablePointer<Float>, tokens: Int,
    from position: Int
  ) {
    let width = heads * headSize
    let alpha = 1 / Float(headSize).squareRoot()
    let start = max(0, position + 1 - (window ?? .max))
    let length = position + tokens - start
    let (k, v) = unsafe (k + start * headSize, v + start * headSize)
    unsafe PlainProduct.multiplyTransposed(
      q, k, scores, tokens, length, headSize, alpha: alpha, aStride: width, yStride: length)
    for token in 0..<tokens {
      let row = unsafe scores + token * length
      let seen = position + token + 1 - start
      let hidden = max(0, seen - (window ?? .max))
      for i in 0..<hidden { unsafe row[i] = 0 }
      unsafe nibble_softmax(row + hidden, seen - hidden)
      for i in seen..<length { unsafe row[i] = 0 }
    }
    unsafe PlainProduct.multiply(
      scores, v, out, tokens, headSize, length, aStride: length, yStride: width)
  }
}
