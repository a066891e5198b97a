import CNibble

/// Layout of values in the processor's tiles (AMX): a tile is 16 rows of 64 bytes.
enum TileLayout: Hashable, Sendable {
  /// int8 codes: products and sums are exact.
  case codes
  /// Floats as a sum of bfloat16 parts: one part rounds, three are exact.
  case floats(parts: Int)

  /// Bytes of 16 rows of `k` values.
  func step(_ k: Int) -> Int {
    switch self {
    case .codes: nibble_packed_bytes(16, k)
    case .floats(let parts): nibble_packed_bytes(16, 2 * k) * parts
    }
  }

  /// Bytes of `rows` rows of `k` values.
  func bytes(_ rows: Int, _ k: Int) -> Int { (rows + 15) / 16 * step(k) }

  /// Rows of inputs per slab: few enough that their tiles stay in the second-level cache (2 MiB on
  /// processors with AMX, 1 MiB elsewhere), and enough to amortize loading each tile of a weight.
  func slab(_ k: Int) -> Int {
    guard Compute.tiles == .dots else { return step(k) <= 1 << 16 ? 256 : 128 }
    return min(128, max(32, (200 << 10) / step(k) / 2 * 32))
  }
}

/// Products on the processor's tiles. Both factors are packed first.
enum TileProduct {
  /// Packs inputs into scratch memory for `use`.
  static func pack(
    _ inputs: borrowing RoundedInputs, as layout: TileLayout, on compute: Compute
  ) -> UnsafeRawPointer {
    let (t, k) = (inputs.tokens, inputs.columns)
    let step = layout.step(k)
    let tiles = unsafe compute.scratch.take(.activations, layout.bytes(t, k))
    let (codes, stride) = unsafe (inputs.codes, inputs.stride)
    let floats = unsafe codes == nil ? inputs.floats : nil
    compute.ranges(of: t, grain: 32) { tokens, _ in
      let out = unsafe tiles + tokens.lowerBound / 16 * step
      switch layout {
      case .codes:
        unsafe nibble_pack_a(codes! + tokens.lowerBound * stride, out, tokens.count, stride)
      case .floats(let parts):
        unsafe nibble_pack_a_floats(
          floats! + tokens.lowerBound * k, out, tokens.count, k, k, Int32(parts))
      }
    }
    return UnsafeRawPointer(tiles)
  }

  /// Packs some rows of a weight into `tiles`.
  static func pack(
    _ weight: PreparedWeight, _ part: Range<Int>, parts: Int, unscaled: Bool,
    into tiles: UnsafeMutableRawPointer, on compute: Compute
  ) {
    let k = weight.weight.columns
    let step = TileLayout.floats(parts: parts).step(k)
    compute.ranges(of: part.count, grain: 16) { rows, _ in
      let out = unsafe tiles + rows.lowerBound / 16 * step
      let first = part.lowerBound + rows.lowerBound
      unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.count * k) { floats in
        unsafe weight.widen(
          first..<first + rows.count, into: floats.baseAddress!, unscaled: unscaled)
        unsafe nibble_pack_b_floats(floats.baseAddress!, out, rows.count, k, Int32(parts))
      }
    }
  }

  /// `y = x · Wᵀ` of packed factors with `k` inputs. With tiles of a gate: `y = silu(x · Gᵀ) · (x ·
  /// Wᵀ)`.
  ///
  /// Sums are first written to memory of the thread: storing across cache lines to uncached memory
  /// would cost as much as the products.
  static func run(
    _ x: UnsafeRawPointer, _ layout: TileLayout, tokens t: Int, scales: UnsafePointer<Float>?,
    _ weights: UnsafeRawPointer, _ weightLayout: TileLayout, gate: UnsafeRawPointer? = nil,
    inputs k: Int, _ target: ProductTarget, on compute: Compute
  ) {
    let (step, weightStep) = (layout.step(k), weightLayout.step(k))
    let tokensAtOnce = layout.slab(k)
    let slabs = (t + tokensAtOnce - 1) / tokensAtOnce
    // A task computes its outputs in chunks whose sums stay in cache until they are copied.
    let chunk = 128
    let chunks = (target.outputs + chunk - 1) / chunk
    let tasksASlab = min(chunks, max(1, (4 * compute.pool.threads + slabs - 1) / slabs))
    let panelSize = tokensAtOnce * chunk
    let panels = unsafe compute.scratch.take(.sums, compute.pool.threads * 2 * panelSize * 4)
      .assumingMemoryBound(to: Float.self)
    compute.pool.run(slabs * tasksASlab) { task, worker in
      let token = task / tasksASlab * tokensAtOnce
      let m = min(tokensAtOnce, t - token)
      let panel = unsafe panels + worker * 2 * panelSize
      let a = unsafe x + token / 16 * step
      let rowScales = unsafe scales.map { unsafe $0 + token }
      let part = task % tasksASlab
      for number in part * chunks / tasksASlab..<(part + 1) * chunks / tasksASlab {
        let output = number * chunk
        let n = min(chunk, target.outputs - output)
        func multiply(_ tiles: UnsafeRawPointer, into panel: UnsafeMutablePointer<Float>) {
          let b = unsafe tiles + output / 16 * weightStep
          unsafe withOptionalPointer(target.columnScales, at: output) { columnScales in
            switch (layout, weightLayout) {
            case (.floats(let parts), .floats(let weightParts)):
              unsafe nibble_tiles_floats(
                a, b, panel, m, n, k, Int32(parts), Int32(weightParts), weightStep, chunk,
                rowScales, columnScales)
            default:
              unsafe nibble_tiles_s8(
                a, b, panel, m, n, k, weightStep, chunk, rowScales, columnScales)
            }
          }
        }
        unsafe multiply(gate ?? weights, into: panel)
        if unsafe gate != nil {
          unsafe multiply(weights, into: panel + panelSize)
          for row in 0..<m {
            unsafe nibble_silu_multiply(panel + row * chunk, panel + panelSize + row * chunk, n)
          }
        }
        for row in 0..<m {
          unsafe (target.y + (token + row) * target.stride + output).update(
            from: panel + row * chunk, count: n)
        }
      }
    }
  }

  /// `out = silu(x · Gᵀ) · (x · Uᵀ)` as tiles, with `n` outputs; 16 tokens take `outStep` bytes.
  static func gated(
    _ x: UnsafeRawPointer, tokens t: Int, gate: UnsafeRawPointer, up: UnsafeRawPointer,
    inputs k: Int, outputs n: Int, parts: Int, weightParts: Int,
    into out: UnsafeMutableRawPointer, outStep: Int, on compute: Compute
  ) {
    let layout = TileLayout.floats(parts: parts)
    let (step, weightStep) = (layout.step(k), TileLayout.floats(parts: weightParts).step(k))
    let (tokensAtOnce, outputsAtOnce) = (layout.slab(k), 128)
    let columns = (n + outputsAtOnce - 1) / outputsAtOnce
    compute.pool.run((t + tokensAtOnce - 1) / tokensAtOnce * columns) { task, _ in
      let token = task / columns * tokensAtOnce
      let output = task % columns * outputsAtOnce
      unsafe nibble_tiles_gated(
        x + token / 16 * step, gate + output / 16 * weightStep, up + output / 16 * weightStep,
        out + token / 16 * outStep + output / 32 * 1024 * parts, min(tokensAtOnce, t - token),
        min(outputsAtOnce, n - output), k, Int32(parts), Int32(weightParts), weightStep, outStep)
    }
  }
}

/// Calls `body` with a pointer to the array's elements, or nil without an array.
func withOptionalPointer(
  _ array: [Float]?, at index: Int, _ body: (UnsafePointer<Float>?) -> Void
) {
  guard let array else { return body(nil) }
  unsafe array.withUnsafeBufferPointer { unsafe body($0.baseAddress! + index) }
}
