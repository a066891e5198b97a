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

  /// Copies rows `[t, keyHeads · d]` to positions `position...` of a store `[keyHeads, capacity, d]`.
  public func store(
    _ rows: Span<Float>, at position: Int, capacity: Int, in store: inout MutableSpan<Float>
  ) {
    let width = keyHeads * headSize
    let t = rows.count / width
    precondition(position >= 0 && position + t <= capacity, "\(position) + \(t) of \(capacity)")
    precondition(store.count == width * capacity, "\(store.count) values, not \(width * capacity)")
    unsafe rows.withUnsafeBufferPointer { rows in
      unsafe store.withUnsafeMutableBufferPointer { store in
        for token in 0..<t {
          for head in 0..<keyHeads {
            unsafe (store.baseAddress! + (head * capacity + position + token) * headSize).update(
              from: rows.baseAddress! + token * width + head * headSize, count: headSize)
          }
        }
      }
    }
  }

  /// `out[i] = softmax(q[i] · Kᵀ / sqrt(d)) · V` over the positions that token `position + i` sees.
  ///
  /// Works in slabs of queries, so memory grows with the context, not with its square. On tiles the
  /// factors of both products are rounded as the precision of `compute` says.
  ///
  /// - Parameters:
  ///   - queries: `[t, heads · d]`, for the positions from `position` on, whose keys and values are
  ///     stored already.
  ///   - keys: `[keyHeads, capacity, d]`; values likewise.
  ///   - out: `[t, heads · d]`, overwritten.
  public func attend(
    _ queries: Span<Float>, keys: Span<Float>, values: Span<Float>, capacity: Int,
    from position: Int, into out: inout MutableSpan<Float>, on compute: Compute
  ) {
    let width = heads * headSize
    let t = queries.count / width
    precondition(queries.count == t * width && out.count == queries.count, "rows of \(width)")
    precondition(
      keys.count == keyHeads * capacity * headSize && values.count == keys.count,
      "\(keys.count) keys for a capacity of \(capacity)")
    precondition(position + t <= capacity, "\(position) + \(t) of \(capacity)")
    guard t > 0 else { return }
    if hasTilesHere, t > 4 {
      unsafe queries.withUnsafeBufferPointer { queries in
        unsafe keys.withUnsafeBufferPointer { keys in
          unsafe values.withUnsafeBufferPointer { values in
            unsafe out.withUnsafeMutableBufferPointer { out in
              unsafe attendOnTiles(
                queries.baseAddress!, keys.baseAddress!, values.baseAddress!, capacity: capacity,
                from: position, tokens: t, into: out.baseAddress!, on: compute)
            }
          }
        }
      }
      return
    }
    let grain = 128
    let slabs = (t + grain - 1) / grain
    let end = position + t
    let scoreCount = min(t, grain) * end
    let scores = unsafe compute.scratch.take(.scores, scoreCount * compute.pool.threads * 4)
      .assumingMemoryBound(to: Float.self)
    unsafe queries.withUnsafeBufferPointer { queries in
      unsafe keys.withUnsafeBufferPointer { keys in
        unsafe values.withUnsafeBufferPointer { values in
          unsafe out.withUnsafeMutableBufferPointer { out in
            compute.pool.run(slabs * heads) { task, worker in
              let head = task % heads
              // The longest slabs first: the last ones fill the gaps between threads.
              let first = (slabs - 1 - task / heads) * grain
              let tokens = min(grain, t - first)
              let keyHead = head / (heads / keyHeads)
              let store = keyHead * capacity * headSize
              unsafe attendSlab(
                queries.baseAddress! + first * width + head * headSize,
                keys.baseAddress! + store, values.baseAddress! + store,
                scores + worker * scoreCount, out.baseAddress! + first * width + head * headSize,
                tokens: tokens, from: position + first)
            }
          }
        }
      }
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
    if tokens == 1 {
      unsafe nibble_matvec_f32(q, k, scores, headSize, length)
      unsafe nibble_scale(scores, alpha, length)
    } else {
      unsafe PlainProduct.multiplyTransposed(
        q, k, scores, tokens, length, headSize, alpha: alpha, aStride: width, yStride: length)
    }
    for token in 0..<tokens {
      let row = unsafe scores + token * length
      let seen = position + token + 1 - start
      let hidden = max(0, seen - (window ?? .max))
      for i in 0..<hidden { unsafe row[i] = 0 }
      unsafe nibble_softmax(row + hidden, seen - hidden)
      for i in seen..<length { unsafe row[i] = 0 }
    }
    if tokens == 1 {
      for i in 0..<headSize { unsafe out[i] = 0 }
      for i in 0..<length {
        unsafe nibble_add_scaled(out, v + i * headSize, scores[i], headSize)
      }
    } else {
      unsafe PlainProduct.multiply(
        scores, v, out, tokens, headSize, length, aStride: length, yStride: width)
    }
  }
}
