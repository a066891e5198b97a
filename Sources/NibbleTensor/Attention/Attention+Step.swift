import CNibble
import Foundation

extension Attention {
  /// Attention of up to eight tokens over the KV cache, with the context split into stretches that
  /// run in parallel.
  /// Each stretch has its own maximum score and sum of weights; the partial results are joined in
  /// order. Each page is read once for all tokens. Stretches start at multiples of their length, so
  /// a token's sums do not depend on the tokens beside it.
  ///
  /// Source: flash decoding, as in FlashAttention-2, arXiv 2307.08691.
  func attendSteps(
    _ queries: UnsafePointer<Float>, _ store: KeyValueStore, from position: Int, tokens t: Int,
    sinks: [Float]?, into out: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    let (page, d, shared) = (KeyValueStore.page, headSize, heads / keyHeads)
    let stretch = 4 * page
    let first = firstSeen(by: position) / stretch
    let stretches = (position + t - 1) / stretch + 1 - first
    // For each token, head and stretch: the weighted sum of values, the largest score, the sum of weights.
    let partSize = d + 2
    let workSize = page * d + t * shared * stretch
    let partCount = t * heads * stretches * partSize
    let memory = unsafe compute.scratch.take(
      .scores, (partCount + workSize * compute.pool.threads) * 4
    ).assumingMemoryBound(to: Float.self)
    let alpha = changesScores ? 1 : scale
    let own = unsafe OwnGroup(store, from: position)
    compute.pool.run(keyHeads * stretches) { task, worker in
      let (head, index) = (task / stretches, first + task % stretches)
      let work = unsafe memory + partCount + worker * workSize
      let scores = unsafe work + page * d
      let begin = index * stretch
      func seen(_ token: Int) -> Range<Int> {
        let range = firstSeen(by: position + token)..<position + token + 1
        return range.clamped(to: begin..<begin + stretch)
      }
      func part(_ token: Int, _ query: Int) -> UnsafeMutablePointer<Float> {
        let at = (token * heads + head * shared + query) * stretches + task % stretches
        return unsafe memory + at * partSize
      }
      /// Calls `body` with each page of the stretch, the tokens that see some of it, and how far.
      func visitPages(isKey: Bool, _ body: (_ start: Int, _ token: Int, _ end: Int) -> Void) {
        let last = min(position + t, begin + stretch)
        for start in Swift.stride(from: begin, to: last, by: page) {
          var isLoaded = false
          for token in 0..<t where seen(token).overlaps(start..<start + page) {
            if !isLoaded { unsafe store.load(start, head, isKey: isKey, into: work) }
            isLoaded = true
            body(start, token, min(start + page, seen(token).upperBound))
          }
        }
      }
      visitPages(isKey: true) { start, token, _ in
        for query in 0..<shared {
          unsafe nibble_cache_scores(
            work, queries + (token * heads + head * shared + query) * d,
            scores + (token * shared + query) * stretch + start - begin, d)
        }
      }
      for token in 0..<t {
        let seen = seen(token)
        for query in 0..<shared {
          let line = unsafe scores + (token * shared + query) * stretch
          let part = unsafe part(token, query)
          unsafe own?.score(
            line, of: begin..<begin + stretch,
            queries + (token * heads + head * shared + query) * d, at: position + token,
            keyHead: head, alpha: 1)
          for i in 0..<d { unsafe part[i] = 0 }
          guard !seen.isEmpty else {
            // The token sees nothing of this stretch: its weight is zero when stretches are joined.
            unsafe (part[d], part[d + 1]) = (-.infinity, 0)
            continue
          }
          if changesScores {
            unsafe changeScores(
              line + seen.lowerBound - begin, seen.count, head: head * shared + query,
              from: seen.lowerBound)
          }
          unsafe part[d + 1] = nibble_cache_weights(
            line + seen.lowerBound - begin, seen.count, alpha, part + d)
          for i in seen.lowerBound / page * page..<seen.lowerBound { unsafe line[i - begin] = 0 }
        }
      }
      visitPages(isKey: false) { start, token, end in
        let floats = own?.positions(at: position + token, of: start..<end)
        let quantized = end - start - (floats?.count ?? 0)
        for query in 0..<shared {
          let weights = unsafe scores + (token * shared + query) * stretch + start - begin
          let part = unsafe part(token, query)
          unsafe nibble_cache_mix(work, weights, part, quantized, d)
          unsafe own?.mix(
            weights + quantized, of: start..<end, at: position + token, keyHead: head, into: part)
        }
      }
    }
    for token in 0..<t {
      // The stretches that this token sees, the same ones as when it is computed alone.
      let skipped = firstSeen(by: position + token) / stretch - first
      let count = (position + token) / stretch + 1 - first - skipped
      for head in 0..<heads {
        let row = token * heads + head
        unsafe Self.join(
          memory + (row * stretches + skipped) * partSize, count: count, d, sink: sinks?[head],
          into: out + row * d)
      }
    }
  }

  /// The first position that the token at `position` sees.
  private func firstSeen(by position: Int) -> Int { max(0, position + 1 - (window ?? .max)) }

  /// The softmax over all stretches of one head.
  private static func join(
    _ parts: UnsafePointer<Float>, count: Int, _ d: Int, sink: Float?,
    into out: UnsafeMutablePointer<Float>
  ) {
    let size = d + 2
    var peak = sink ?? -Float.infinity
    for part in 0..<count { unsafe peak = max(peak, parts[part * size + d]) }
    for i in 0..<d { unsafe out[i] = 0 }
    var sum = sink.map { exp($0 - peak) } ?? 0
    for part in 0..<count {
      let values = unsafe parts + part * size
      let factor = unsafe exp(values[d] - peak)
      unsafe sum += factor * values[d + 1]
      unsafe nibble_add_scaled(out, values, factor, d)
    }
    unsafe nibble_scale(out, 1 / sum, d)
  }
}
