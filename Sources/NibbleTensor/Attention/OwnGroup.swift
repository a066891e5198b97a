import CNibble

/// The keys and values that queries read in float: those of their own group of tokens, see
/// ``KeyValueStore``.
@safe struct OwnGroup {
  private let floats: KeptFloats
  /// Keys and values `[t, keyHeads · d]` of the latest tokens, from position `start` on; nil when all
  /// are among the recent positions.
  private let latest: (keys: UnsafePointer<Float>, values: UnsafePointer<Float>)?
  private let start: Int
  private let keyHeads: Int
  private let d: Int

  /// Nil when the store has no groups of tokens.
  init?(
    _ store: KeyValueStore,
    latest: (keys: UnsafePointer<Float>, values: UnsafePointer<Float>)? = nil, from start: Int
  ) {
    guard let floats = store.floats else { return nil }
    self.floats = floats
    unsafe self.latest = latest
    self.start = start
    (keyHeads, d) = (store.attention.keyHeads, store.attention.headSize)
  }

  /// The positions of `seen` that a query reads here. Those of the first group are float in their
  /// page.
  func positions(at position: Int, of seen: Range<Int>) -> Range<Int> {
    let first = position / KeyValueStore.group * KeyValueStore.group
    return first == 0 ? 0..<0 : (first..<position + 1).clamped(to: seen)
  }

  /// Positions that lie in contiguous rows, with these, and then the latest ones.
  private func parts(
    _ own: Range<Int>, _ keyHead: Int, isKey: Bool
  ) -> (kept: Range<Int>, rows: UnsafePointer<Float>, rest: Range<Int>) {
    guard unsafe latest != nil else {
      return unsafe (
        own, UnsafePointer(floats.recent(own.lowerBound, keyHead, isKey: isKey)), 0..<0
      )
    }
    let kept = own.clamped(to: own.lowerBound..<max(own.lowerBound, start))
    return unsafe (
      kept, UnsafePointer(floats.earlier(own.lowerBound, keyHead, isKey: isKey)),
      kept.upperBound..<own.upperBound
    )
  }

  /// Overwrites scores that were computed with quantized keys.
  ///
  /// - Parameters:
  ///   - scores: `alpha · q · k` of the positions `seen`.
  ///   - position: of the query.
  func score(
    _ scores: UnsafeMutablePointer<Float>, of seen: Range<Int>, _ query: UnsafePointer<Float>,
    at position: Int, keyHead: Int, alpha: Float
  ) {
    let own = positions(at: position, of: seen)
    guard !own.isEmpty else { return }
    let line = unsafe scores - seen.lowerBound
    let parts = unsafe parts(own, keyHead, isKey: true)
    unsafe nibble_matvec_f32(
      query, parts.rows, line + own.lowerBound, d, parts.kept.count)
    for at in unsafe parts.rest {
      let row = ((at - start) * keyHeads + keyHead) * d
      unsafe line[at] = nibble_dot_f32(query, latest!.keys + row, d)
    }
    if alpha != 1 { unsafe nibble_scale(line + own.lowerBound, alpha, own.count) }
  }

  /// `out[d] += Σ weights · values` over ``positions(at:of:)``.
  func mix(
    _ weights: UnsafePointer<Float>, of seen: Range<Int>, at position: Int, keyHead: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let own = positions(at: position, of: seen)
    guard !own.isEmpty else { return }
    let parts = unsafe parts(own, keyHead, isKey: false)
    unsafe nibble_cache_mix(parts.rows, weights, out, parts.kept.count, d)
    for at in unsafe parts.rest {
      let row = ((at - start) * keyHeads + keyHead) * d
      unsafe nibble_add_scaled(out, latest!.values + row, weights[at - own.lowerBound], d)
    }
  }
}
