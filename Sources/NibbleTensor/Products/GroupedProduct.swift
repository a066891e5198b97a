import CNibble

/// Float products of many tokens with `code - zero` where scales change along the inputs: see
/// ``ProductGroups``.
struct GroupedProduct {
  let matrix: QuantizedMatrix
  let groups: ProductGroups

  /// Multiplies by the weight's rows in `part`.
  func run(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, _ target: ProductTarget,
    on compute: Compute
  ) {
    // Tiles pay off only for groups of at least 16 inputs; smaller ones are mostly padding.
    if Compute.tiles != .none, compute.precision == .bf16, groups.width >= 16 {
      tiles(inputs, part, target, on: compute)
    } else {
      plainFloats(inputs, part, target, on: compute)
    }
  }

  /// The weight's scales transposed, `[scales per row, part]`, so that those of one group are
  /// contiguous.
  private func columnScales(_ part: Range<Int>) -> [Float] {
    let grid = matrix.grid
    return (0..<grid.perRow).flatMap { group in
      part.map { matrix.scales[grid.index(row: $0) + group] }
    }
  }

  // MARK: tiles

  func tiles(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, _ target: ProductTarget,
    on compute: Compute
  ) {
    let (t, k, n) = (inputs.tokens, inputs.columns, part.count)
    let tile = 32
    // Each group starts a tile.
    let width = (groups.width + tile - 1) / tile * tile
    let rowBytes = groups.count * width * 2
    let step = nibble_packed_bytes(16, rowBytes)
    let w = unsafe compute.scratch.take(.weights, nibble_packed_bytes(n, rowBytes))
    compute.ranges(of: n, grain: 16) { rows, _ in
      unsafe withRows(rows.count, rowBytes) { buffer in
        for row in rows {
          unsafe spreadValues(
            part.lowerBound + row, into: buffer + (row - rows.lowerBound) * rowBytes, width: width)
        }
        unsafe nibble_pack_b(buffer, w + rows.lowerBound / 16 * step, rows.count, rowBytes)
      }
    }
    let x = unsafe compute.scratch.take(.activations, nibble_packed_bytes(t, rowBytes))
    let floats = unsafe inputs.floats
    compute.ranges(of: t, grain: 16) { tokens, _ in
      unsafe withRows(tokens.count, rowBytes) { buffer in
        for token in tokens {
          let out = unsafe buffer + (token - tokens.lowerBound) * rowBytes
          for group in 0..<groups.count {
            let values = groups.inputs(of: group, columns: k)
            unsafe nibble_f32_to_bf16(
              floats + token * k + values.lowerBound,
              (out + group * width * 2).assumingMemoryBound(to: UInt16.self), values.count)
          }
        }
        unsafe nibble_pack_a(buffer, x + tokens.lowerBound / 16 * step, tokens.count, rowBytes)
      }
    }
    let (tokensAtOnce, outputsAtOnce) = (slab(inputs: rowBytes / 2), 256)
    let columns = (n + outputsAtOnce - 1) / outputsAtOnce
    let (rowScales, rowStep) = unsafe (inputs.scales!, inputs.step)
    let columnScales = columnScales(part)
    unsafe columnScales.withUnsafeBufferPointer { columnScales in
      compute.pool.run((t + tokensAtOnce - 1) / tokensAtOnce * columns) { task, _ in
        let token = task / columns * tokensAtOnce
        let output = task % columns * outputsAtOnce
        var scales = unsafe nibble_groups(
          bytes: width * 2, row_scale: rowScales + token, row_span: groups.perInputScale,
          row_step: rowStep, column_scale: columnScales.baseAddress! + output,
          column_span: groups.perWeightScale, column_step: n)
        unsafe nibble_tiles_bf16_groups(
          x + token / 16 * step, w + output / 16 * step,
          target.y + token * target.stride + output, min(tokensAtOnce, t - token),
          min(outputsAtOnce, n - output), rowBytes, step, target.stride, &scales)
      }
    }
  }

  /// Calls `body` with zeroed memory for some rows.
  private func withRows(
    _ count: Int, _ rowBytes: Int, _ body: (UnsafeMutableRawPointer) -> Void
  ) {
    unsafe withUnsafeTemporaryAllocation(byteCount: count * rowBytes, alignment: 64) { rows in
      unsafe rows.initializeMemory(as: UInt8.self, repeating: 0)
      unsafe body(rows.baseAddress!)
    }
  }

  /// Writes a row's `code - zero` as bfloat16, which is exact; each group takes `width` values.
  private func spreadValues(_ row: Int, into out: UnsafeMutableRawPointer, width: Int) {
    let k = matrix.columns
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: k) { floats in
      unsafe matrix.decode(row..<row + 1, into: floats.baseAddress!, unscaled: true)
      for group in 0..<groups.count {
        let values = groups.inputs(of: group, columns: k)
        unsafe nibble_f32_to_bf16(
          floats.baseAddress! + values.lowerBound,
          out.assumingMemoryBound(to: UInt16.self) + group * width, values.count)
      }
    }
  }

  // MARK: oneDNN

  /// Multiplies the scales into both factors, then computes one float product.
  func plainFloats(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, _ target: ProductTarget,
    on compute: Compute
  ) {
    let (t, k, n) = (inputs.tokens, inputs.columns, part.count)
    let w = unsafe compute.scratch.take(.weights, n * k * 4).assumingMemoryBound(to: Float.self)
    compute.ranges(of: n, grain: 32) { rows, _ in
      let first = part.lowerBound + rows.lowerBound
      unsafe matrix.decode(first..<first + rows.count, into: w + rows.lowerBound * k)
    }
    let x = unsafe compute.scratch.take(.activations, t * k * 4).assumingMemoryBound(to: Float.self)
    let (codes, scales, span) = unsafe (inputs.floats, inputs.scales!, inputs.span)
    let step = inputs.step
    compute.ranges(of: t, grain: 16) { tokens, _ in
      for token in tokens {
        for start in stride(from: 0, to: k, by: span) {
          let (at, count) = (token * k + start, min(span, k - start))
          unsafe (x + at).update(from: codes + at, count: count)
          unsafe nibble_scale(x + at, scales[start / span * step + token], count)
        }
      }
    }
    compute.ranges(of: t, grain: slab(inputs: k)) { tokens, _ in
      unsafe PlainProduct.multiplyTransposed(
        x + tokens.lowerBound * k, w, target.y + tokens.lowerBound * target.stride, tokens.count,
        n, k, yStride: target.stride)
    }
  }
}
