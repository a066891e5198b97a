import CNibble

extension Attention {
  /// `attend` on tiles (AMX): sums and softmax in float. Keys and values are packed once per head
  /// and shared by all slabs of queries.
  func attendOnTiles(
    _ queries: UnsafePointer<Float>, _ store: KeyValueStore, from position: Int, tokens t: Int,
    into out: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    let layout = TileLayout.floats(parts: compute.parts)
    // Whole pairs of tiles, so that every product writes whole tiles.
    let end = (position + t + 31) / 32 * 32
    let keyBytes = layout.bytes(end, headSize)
    let valueBytes = layout.bytes(headSize, end)
    let packed = unsafe compute.scratch.take(.weights, keyHeads * (keyBytes + valueBytes))
    let page = KeyValueStore.page
    let pages = (end + page - 1) / page
    compute.pool.run(keyHeads * pages) { task, _ in
      let (head, first) = (task / pages, task % pages * page)
      let parts = Int32(compute.parts)
      unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: page * headSize) { floats in
        let floats = floats.baseAddress!
        unsafe store.load(first, head, isKey: true, into: floats)
        // A page of keys is transposed, `[d, 64]`; the last page may reach beyond `end`.
        let keys = min(page, end - first)
        if keys < page { unsafe Self.narrow(floats, headSize, from: page, to: keys) }
        unsafe nibble_pack_b_columns(
          floats, packed + head * keyBytes + layout.bytes(first, headSize), headSize, keys,
          layout.step(headSize), parts)
        unsafe store.load(first, head, isKey: false, into: floats)
        unsafe nibble_pack_b_columns(
          floats, packed + keyHeads * keyBytes + head * valueBytes + layout.step(first),
          min(page, position + t - first), headSize, layout.step(end), parts)
      }
    }
    let grain = 32
    let slabs = (t + grain - 1) / grain
    // Per thread: tiles of queries and probabilities, scores, and one rescaling factor per row.
    let queryBytes = layout.bytes(grain, headSize)
    let weightBytes = layout.bytes(grain, end)
    let threadBytes = queryBytes + weightBytes + grain * (end + 1) * 4
    let scratch = unsafe compute.scratch.take(.scores, threadBytes * compute.pool.threads)
    compute.pool.run(slabs * heads) { task, worker in
      let head = task % heads
      // The longest slabs first: the last ones fill the gaps between threads.
      let first = (slabs - 1 - task / heads) * grain
      let keyHead = head / (heads / keyHeads)
      // Positions before the window of the first query are left out, in whole tiles.
      let start = max(0, position + first + 1 - (window ?? .max)) / 32 * 32
      let memory = unsafe scratch + worker * threadBytes
      unsafe attendSlab(
        queries + first * heads * headSize + head * headSize,
        keys: packed + keyHead * keyBytes + layout.bytes(start, headSize),
        values: packed + keyHeads * keyBytes + keyHead * valueBytes + layout.step(start),
        valueStep: layout.step(end), layout, queryTiles: memory, weightTiles: memory + queryBytes,
        scores: (memory + queryBytes + weightBytes).assumingMemoryBound(to: Float.self),
        into: out + first * heads * headSize + head * headSize,
        tokens: min(grain, t - first), seen: position + first + 1 - start)
    }
  }

  /// Shortens each row to its first `narrow` values, in place.
  private static func narrow(
    _ rows: UnsafeMutablePointer<Float>, _ count: Int, from width: Int, to narrow: Int
  ) {
    for row in 1..<count {
      unsafe (rows + row * narrow).update(from: rows + row * width, count: narrow)
    }
  }

  /// `out = softmax(scale · q · Kᵀ) · V` for up to 32 queries. The first query sees `seen` keys.
  private func attendSlab(
    _ q: UnsafePointer<Float>, keys: UnsafeRawPointer, values: UnsafeRawPointer, valueStep: Int,
    _ layout: TileLayout, queryTiles: UnsafeMutableRawPointer,
    weightTiles: UnsafeMutableRawPointer, scores: UnsafeMutablePointer<Float>,
    into out: UnsafeMutablePointer<Float>, tokens: Int, seen: Int
  ) {
    guard case .floats(let count) = layout else { preconditionFailure("scores are floats") }
    let (width, parts) = (heads * headSize, Int32(count))
    let columns = (seen + tokens - 1 + 31) / 32 * 32
    let factors = unsafe scores + 32 * columns
    unsafe nibble_pack_a_floats(q, queryTiles, tokens, headSize, width, parts)
    // Rows and columns that no query or key fills are computed and then masked.
    unsafe nibble_tiles_floats(
      queryTiles, keys, scores, (tokens + 15) / 16 * 16, columns, headSize, parts,
      parts, layout.step(headSize), columns, nil, nil)
    unsafe nibble_tiles_softmax(
      scores, columns, weightTiles, factors, tokens, columns, seen, window ?? .max,
      scale, parts)
    unsafe nibble_tiles_floats(
      weightTiles, values, out, tokens, headSize, columns, parts, parts, valueStep, width, factors,
      nil)
  }
}
