import CNibble

/// Products on the processor's tiles (AMX): both factors are packed first, weights once a chunk,
/// inputs once a slab.
enum TileProduct {
  /// bfloat16 factors, float sums.
  static func bfloats(
    _ inputs: borrowing RoundedInputs, _ weight: Weight, _ part: Range<Int>, unscaled: Bool,
    _ target: ProductTarget, on compute: Compute
  ) {
    let k = inputs.columns
    let packed = unsafe pack(part.count, rowBytes: 2 * k, on: compute) { rows, out in
      let first = part.lowerBound + rows.lowerBound
      unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.count * k) { floats in
        unsafe withUnsafeTemporaryAllocation(of: UInt16.self, capacity: rows.count * k) { halves in
          unsafe weight.widen(
            first..<first + rows.count, into: floats.baseAddress!, unscaled: unscaled)
          unsafe nibble_f32_to_bf16(floats.baseAddress!, halves.baseAddress!, rows.count * k)
          unsafe nibble_pack_b(halves.baseAddress!, out, rows.count, 2 * k)
        }
      }
    }
    let x = unsafe inputs.floats
    unsafe run(inputs, rowBytes: 2 * k, packed, target, on: compute, product: nibble_tiles_bf16) {
      tokens, out in
      unsafe withUnsafeTemporaryAllocation(of: UInt16.self, capacity: 16 * k) { halves in
        unsafe nibble_f32_to_bf16(
          x + tokens.lowerBound * k, halves.baseAddress!, tokens.count * k)
        unsafe nibble_pack_a(halves.baseAddress!, out, tokens.count, 2 * k)
      }
    }
  }

  /// int8 factors, exact sums.
  static func integers(
    _ inputs: borrowing RoundedInputs, _ matrix: QuantizedMatrix, _ part: Range<Int>,
    _ target: ProductTarget, on compute: Compute
  ) {
    let k = inputs.columns
    let packed = unsafe pack(part.count, rowBytes: k, on: compute) { rows, out in
      unsafe matrix.codes.withUnsafeBytes { codes in
        unsafe nibble_pack_b(
          codes.baseAddress! + (part.lowerBound + rows.lowerBound) * k, out, rows.count, k)
      }
    }
    let x = unsafe inputs.codes!
    unsafe run(inputs, rowBytes: k, packed, target, on: compute, product: nibble_tiles_s8) {
      tokens, out in
      unsafe nibble_pack_a(x + tokens.lowerBound * k, out, tokens.count, k)
    }
  }

  private static func pack(
    _ rows: Int, rowBytes: Int, on compute: Compute,
    _ body: (_ rows: Range<Int>, _ out: UnsafeMutableRawPointer) -> Void
  ) -> UnsafeRawPointer {
    let memory = unsafe compute.scratch.take(.weights, nibble_packed_bytes(rows, rowBytes))
    let step = nibble_packed_bytes(16, rowBytes)
    compute.ranges(of: rows, grain: 16) { part, _ in
      unsafe body(part, memory + part.lowerBound / 16 * step)
    }
    return UnsafeRawPointer(memory)
  }

  private typealias Product = (
    UnsafeRawPointer?, UnsafeRawPointer?, UnsafeMutablePointer<Float>?, Int, Int, Int, Int, Int,
    UnsafePointer<Float>?, UnsafePointer<Float>?
  ) -> Void

  private static func run(
    _ inputs: borrowing RoundedInputs, rowBytes: Int, _ weights: UnsafeRawPointer,
    _ target: ProductTarget, on compute: Compute, product: Product,
    packing body: (_ tokens: Range<Int>, _ out: UnsafeMutableRawPointer) -> Void
  ) {
    let t = inputs.tokens
    let step = nibble_packed_bytes(16, rowBytes)
    let x = unsafe compute.scratch.take(.activations, nibble_packed_bytes(t, rowBytes))
    compute.ranges(of: t, grain: 16) { tokens, _ in
      unsafe body(tokens, x + tokens.lowerBound / 16 * step)
    }
    let tokensAtOnce = slab(inputs: rowBytes / 2)
    let outputsAtOnce = 256
    let columns = (target.outputs + outputsAtOnce - 1) / outputsAtOnce
    let slabs = (t + tokensAtOnce - 1) / tokensAtOnce
    let scales = unsafe inputs.scales
    compute.pool.run(slabs * columns) { task, _ in
      let token = task / columns * tokensAtOnce
      let output = task % columns * outputsAtOnce
      let outputs = min(outputsAtOnce, target.outputs - output)
      unsafe withOptionalPointer(target.columnScales, at: output) { columnScales in
        unsafe product(
          x + token / 16 * step, weights + output / 16 * step,
          target.y + token * target.stride + output, min(tokensAtOnce, t - token), outputs,
          rowBytes, step, target.stride, scales.map { unsafe $0 + token }, columnScales)
      }
    }
  }
}

/// Calls `body` with a pointer to an array's element, or nil without an array.
func withOptionalPointer(
  _ array: [Float]?, at index: Int, _ body: (UnsafePointer<Float>?) -> Void
) {
  guard let array else { return body(nil) }
  unsafe array.withUnsafeBufferPointer { unsafe body($0.baseAddress! + index) }
}
