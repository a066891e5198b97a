import CNibble

extension Attention {
  /// `attend` on tiles (AMX): queries, keys, probabilities and values rounded to bfloat16, sums and
  /// softmax in float. Keys and values are packed once a head, for all slabs.
  func attendOnTiles(
    _ queries: UnsafePointer<Float>, _ keys: UnsafePointer<Float>, _ values: UnsafePointer<Float>,
    capacity: Int, from position: Int, tokens t: Int, into out: UnsafeMutablePointer<Float>,
    on compute: Compute
  ) {
    let end = position + t
    let keyStep = nibble_packed_bytes(16, 2 * headSize)
    let keyBytes = nibble_packed_bytes(end, 2 * headSize)
    let valueStep = nibble_packed_bytes(16, 2 * end)
    let valueBytes = nibble_packed_bytes(headSize, 2 * end)
    let packed = unsafe compute.scratch.take(.weights, keyHeads * (keyBytes + valueBytes))
    compute.pool.run(2 * keyHeads) { task, _ in
      let head = task / 2
      let store = head * capacity * headSize
      if task % 2 == 0 {
        unsafe packKeys(keys + store, end, into: packed + head * keyBytes)
      } else {
        unsafe packValues(
          values + store, end, into: packed + keyHeads * keyBytes + head * valueBytes)
      }
    }
    let grain = 128
    let slabs = (t + grain - 1) / grain
    // Per thread: scores in float, then probabilities in bfloat16 as rows and as tiles.
    let padded = (end + 31) / 32 * 32
    let threadBytes = grain * padded * 8 + nibble_packed_bytes(grain, 2 * headSize)
    let scratch = unsafe compute.scratch.take(.scores, threadBytes * compute.pool.threads)
    compute.pool.run(slabs * heads) { task, worker in
      let head = task % heads
      // The longest slabs first: the last ones fill the gaps between threads.
      let first = (slabs - 1 - task / heads) * grain
      let keyHead = head / (heads / keyHeads)
      // Positions before the window of the first query are left out, in whole tiles.
      let start = max(0, position + first + 1 - (window ?? .max)) / 32 * 32
      unsafe attendSlab(
        queries + first * heads * headSize + head * headSize,
        keys: packed + keyHead * keyBytes + start / 16 * keyStep, keyStep: keyStep,
        values: packed + keyHeads * keyBytes + keyHead * valueBytes + start / 32 * 1024,
        valueStep: valueStep, memory: scratch + worker * threadBytes,
        into: out + first * heads * headSize + head * headSize,
        tokens: min(grain, t - first), start: start, from: position + first)
    }
  }

  private func packKeys(
    _ keys: UnsafePointer<Float>, _ count: Int, into tiles: UnsafeMutableRawPointer
  ) {
    unsafe withUnsafeTemporaryAllocation(of: UInt16.self, capacity: count * headSize) { halves in
      unsafe nibble_f32_to_bf16(keys, halves.baseAddress!, count * headSize)
      unsafe nibble_pack_b(halves.baseAddress!, tiles, count, 2 * headSize)
    }
  }

  /// Values are the second operand with positions as its depth, so they are turned first.
  private func packValues(
    _ values: UnsafePointer<Float>, _ count: Int, into tiles: UnsafeMutableRawPointer
  ) {
    unsafe withUnsafeTemporaryAllocation(of: UInt16.self, capacity: 2 * count * headSize) {
      halves in
      let rows = halves.baseAddress!
      let turned = unsafe rows + count * headSize
      unsafe nibble_f32_to_bf16(values, rows, count * headSize)
      for i in 0..<count {
        for d in 0..<headSize { unsafe turned[d * count + i] = rows[i * headSize + d] }
      }
      unsafe nibble_pack_b(turned, tiles, headSize, 2 * count)
    }
  }

  private func attendSlab(
    _ q: UnsafePointer<Float>, keys: UnsafeRawPointer, keyStep: Int, values: UnsafeRawPointer,
    valueStep: Int, memory: UnsafeMutableRawPointer, into out: UnsafeMutablePointer<Float>,
    tokens: Int, start: Int, from position: Int
  ) {
    let width = heads * headSize
    let length = position + tokens - start
    let padded = (length + 31) / 32 * 32
    let scores = unsafe memory.assumingMemoryBound(to: Float.self)
    let halves = unsafe (memory + tokens * padded * 4).assumingMemoryBound(to: UInt16.self)
    let tiles = unsafe memory + tokens * padded * 6
    let alpha = [Float](repeating: 1 / Float(headSize).squareRoot(), count: tokens)
    for token in 0..<tokens {
      unsafe nibble_f32_to_bf16(q + token * width, halves + token * headSize, headSize)
    }
    unsafe nibble_pack_a(halves, tiles, tokens, 2 * headSize)
    unsafe alpha.withUnsafeBufferPointer { alpha in
      unsafe nibble_tiles_bf16(
        tiles, keys, scores, tokens, length, 2 * headSize, keyStep, padded, alpha.baseAddress!, nil)
    }
    for token in 0..<tokens {
      let row = unsafe scores + token * padded
      let seen = position + token + 1 - start
      let hidden = max(0, seen - (window ?? .max))
      for i in 0..<hidden { unsafe row[i] = 0 }
      unsafe nibble_softmax(row + hidden, seen - hidden)
      for i in seen..<padded { unsafe row[i] = 0 }
      unsafe nibble_f32_to_bf16(row, halves + token * padded, padded)
    }
    unsafe nibble_pack_a(halves, tiles, tokens, 2 * padded)
    unsafe nibble_tiles_bf16(
      tiles, values, out, tokens, headSize, 2 * padded, valueStep, width, nil, nil)
  }
}
