import CNibble
import Foundation

extension Attention {
  /// Attention of one token over the kept keys and values, cut into stretches of the context that run
  /// side by side: each has its own maximum and sum, and they are put together in order.
  ///
  /// Source: flash decoding, as in FlashAttention-2, arXiv 2307.08691.
  func attendStep(
    _ queries: UnsafePointer<Float>, _ store: KeyValueStore, position: Int,
    into out: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    let (page, d, shared) = (KeyValueStore.page, headSize, heads / keyHeads)
    let stretch = 4 * page
    let start = max(0, position + 1 - (window ?? .max))
    let first = start / stretch
    let stretches = position / stretch + 1 - first
    // For each stretch and head: the weighted sum of values, the largest score, the sum of weights.
    let partSize = d + 2
    let workSize = page * d + shared * stretch
    let partCount = heads * stretches * partSize
    let memory = unsafe compute.scratch.take(
      .scores, (partCount + workSize * compute.pool.threads) * 4
    ).assumingMemoryBound(to: Float.self)
    let alpha = 1 / Float(d).squareRoot()
    compute.pool.run(keyHeads * stretches) { task, worker in
      let (head, index) = (task / stretches, first + task % stretches)
      let work = unsafe memory + partCount + worker * workSize
      let scores = unsafe work + page * d
      let begin = index * stretch
      let seen = max(start, begin)..<min(position + 1, begin + stretch)
      let firstPage = seen.lowerBound / page * page
      for token in Swift.stride(from: firstPage, to: seen.upperBound, by: page) {
        unsafe store.load(token, head, isKey: true, into: work)
        for query in 0..<shared {
          unsafe nibble_cache_scores(
            work, queries + (head * shared + query) * d, scores + query * stretch + token - begin,
            d)
        }
      }
      for query in 0..<shared {
        let line = unsafe scores + query * stretch
        let part =
          unsafe memory + ((head * shared + query) * stretches + task % stretches) * partSize
        for i in 0..<d { unsafe part[i] = 0 }
        unsafe part[d + 1] = nibble_cache_weights(
          line + seen.lowerBound - begin, seen.count, alpha, part + d)
        for i in firstPage..<seen.lowerBound { unsafe line[i - begin] = 0 }
      }
      for token in Swift.stride(from: firstPage, to: seen.upperBound, by: page) {
        unsafe store.load(token, head, isKey: false, into: work)
        for query in 0..<shared {
          unsafe nibble_cache_mix(
            work, scores + query * stretch + token - begin,
            memory + ((head * shared + query) * stretches + task % stretches) * partSize,
            min(page, seen.upperBound - token), d)
        }
      }
    }
    for head in 0..<heads {
      unsafe Self.join(
        memory + head * stretches * partSize, count: stretches, d, into: out + head * d)
    }
  }

  /// The softmax over all stretches of one head.
  private static func join(
    _ parts: UnsafePointer<Float>, count: Int, _ d: Int, into out: UnsafeMutablePointer<Float>
  ) {
    let size = d + 2
    var peak = -Float.infinity
    for part in 0..<count { unsafe peak = max(peak, parts[part * size + d]) }
    for i in 0..<d { unsafe out[i] = 0 }
    var sum: Float = 0
    for part in 0..<count {
      let values = unsafe parts + part * size
      let factor = unsafe exp(values[d] - peak)
      unsafe sum += factor * values[d + 1]
      unsafe nibble_add_scaled(out, values, factor, d)
    }
    unsafe nibble_scale(out, 1 / sum, d)
  }
}
