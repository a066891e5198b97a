import CNibble
import COneDNN

/// Products of many tokens whose scales change along the inputs, or whose codes must be changed
/// before they are multiplied: see ``ProductGroups``.
struct GroupedProduct {
  let matrix: QuantizedMatrix
  let groups: ProductGroups
  /// Whether codes multiply in integers; otherwise `code - zero` does in float, exactly.
  let isInteger: Bool

  /// Multiplies with the weight's rows in `part`.
  func run(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, _ target: ProductTarget,
    on compute: Compute
  ) {
    // Groups are padded to whole tiles, which must not cost more than it gives.
    let canUseTiles = hasTilesHere && (groups.count == 1 || groups.width >= 16)
    if canUseTiles, isInteger || compute.precision == .bf16 {
      tiles(inputs, part, target, on: compute)
    } else if isInteger {
      plainIntegers(inputs, part, target, on: compute)
    } else {
      plainFloats(inputs, part, target, on: compute)
    }
  }

  /// The weight's scales `[scales a row, part]`, so that one group's lie together.
  private func columnScales(_ part: Range<Int>) -> [Float] {
    let grid = matrix.grid
    return (0..<grid.perRow).flatMap { group in
      part.map { matrix.scales[grid.index(row: $0) + group] }
    }
  }

  /// What the codes of one row sum to for a token of zeros, by group: nothing unless zero has
  /// another code. `zeros`, `codes`: `[columns]`, in groups of `width`.
  private func offsets(
    _ zeros: UnsafePointer<Int8>, _ codes: UnsafePointer<Int8>, columns: Int, width: Int,
    zero: Int32, into offsets: UnsafeMutablePointer<Int32>, every stride: Int
  ) {
    unsafe withUnsafeTemporaryAllocation(of: Int32.self, capacity: groups.count) { sums in
      unsafe nibble_group_sums_s8(zeros, codes, sums.baseAddress!, columns, width, zero)
      for group in 0..<groups.count { unsafe offsets[group * stride] = sums[group] }
    }
  }

  // MARK: tiles

  func tiles(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, _ target: ProductTarget,
    on compute: Compute
  ) {
    let (t, k, n) = (inputs.tokens, inputs.columns, part.count)
    let valueBytes = isInteger ? 1 : 2
    let tile = 64 / valueBytes
    // Each group begins a tile.
    let width = groups.count == 1 ? k : (groups.width + tile - 1) / tile * tile
    let rowBytes = groups.count == 1 ? k * valueBytes : groups.count * width * valueBytes
    let step = nibble_packed_bytes(16, rowBytes)
    let zero = inputs.zero
    let hasOffsets = isInteger && zero != 0
    var offsets = [Int32](repeating: 0, count: hasOffsets ? groups.count * n : 0)
    let w = unsafe compute.scratch.take(.weights, nibble_packed_bytes(n, rowBytes))
    unsafe offsets.withUnsafeMutableBufferPointer { offsets in
      compute.ranges(of: n, grain: 16) { rows, _ in
        unsafe withRows(rows.count, rowBytes) { buffer in
          for row in rows {
            let out = unsafe buffer + (row - rows.lowerBound) * rowBytes
            if isInteger {
              unsafe spreadCodes(part.lowerBound + row, into: out, width: width)
            } else {
              unsafe spreadValues(part.lowerBound + row, into: out, width: width)
            }
          }
          unsafe nibble_pack_b(buffer, w + rows.lowerBound / 16 * step, rows.count, rowBytes)
          guard hasOffsets, let offsets = offsets.baseAddress else { return }
          unsafe withRows(1, rowBytes) { zeros in
            for row in rows {
              unsafe self.offsets(
                zeros.assumingMemoryBound(to: Int8.self),
                (buffer + (row - rows.lowerBound) * rowBytes).assumingMemoryBound(to: Int8.self),
                columns: rowBytes, width: width, zero: zero, into: offsets + row, every: n)
            }
          }
        }
      }
    }
    let x = unsafe compute.scratch.take(.activations, nibble_packed_bytes(t, rowBytes))
    let (floats, codes) = unsafe (inputs.floats, inputs.codes)
    compute.ranges(of: t, grain: 16) { tokens, _ in
      unsafe withRows(tokens.count, rowBytes) { buffer in
        for token in tokens {
          let out = unsafe buffer + (token - tokens.lowerBound) * rowBytes
          for group in 0..<groups.count {
            let values = groups.inputs(of: group, columns: k)
            let at = token * k + values.lowerBound
            let slot = unsafe out + group * width * valueBytes
            if isInteger {
              unsafe slot.copyMemory(from: codes! + at, byteCount: values.count)
            } else {
              unsafe nibble_f32_to_bf16(
                floats + at, slot.assumingMemoryBound(to: UInt16.self), values.count)
            }
          }
        }
        unsafe nibble_pack_a(buffer, x + tokens.lowerBound / 16 * step, tokens.count, rowBytes)
      }
    }
    let (tokensAtOnce, outputsAtOnce) = (slab(inputs: rowBytes / 2), 256)
    let columns = (n + outputsAtOnce - 1) / outputsAtOnce
    let rowScales = unsafe inputs.scales!
    let columnScales = columnScales(part)
    unsafe columnScales.withUnsafeBufferPointer { columnScales in
      unsafe offsets.withUnsafeBufferPointer { offsets in
        compute.pool.run((t + tokensAtOnce - 1) / tokensAtOnce * columns) { task, _ in
          let token = task / columns * tokensAtOnce
          let output = task % columns * outputsAtOnce
          var scales = unsafe nibble_groups(
            bytes: (width * valueBytes + 63) / 64 * 64, row_scale: rowScales + token,
            row_span: groups.perInputScale, row_step: t,
            column_scale: columnScales.baseAddress! + output, column_span: groups.perWeightScale,
            column_step: n, column_offset: hasOffsets ? offsets.baseAddress! + output : nil)
          let product = unsafe isInteger ? nibble_tiles_s8_groups : nibble_tiles_bf16_groups
          unsafe product(
            x + token / 16 * step, w + output / 16 * step,
            target.y + token * target.stride + output, min(tokensAtOnce, t - token),
            min(outputsAtOnce, n - output), rowBytes, step, target.stride, &scales)
        }
      }
    }
  }

  /// Zeroed memory for some rows.
  private func withRows(
    _ count: Int, _ rowBytes: Int, _ body: (UnsafeMutableRawPointer) -> Void
  ) {
    unsafe withUnsafeTemporaryAllocation(byteCount: count * rowBytes, alignment: 64) { rows in
      unsafe rows.initializeMemory(as: UInt8.self, repeating: 0)
      unsafe body(rows.baseAddress!)
    }
  }

  /// Copies a row's int8 or int4 codes, a byte a code, `width` bytes from group to group.
  private func spreadCodes(_ row: Int, into out: UnsafeMutableRawPointer, width: Int) {
    let k = matrix.columns
    unsafe matrix.codes.withUnsafeBytes { codes in
      for group in 0..<groups.count {
        let values = groups.inputs(of: group, columns: k)
        let at = (row * k + values.lowerBound) * matrix.scheme.bits / 8
        let slot = unsafe out + group * width
        if matrix.scheme.bits == 4 {
          unsafe nibble_unpack_int4(
            codes.baseAddress!.assumingMemoryBound(to: UInt8.self) + at,
            slot.assumingMemoryBound(to: Int8.self), values.count)
        } else {
          unsafe slot.copyMemory(from: codes.baseAddress! + at, byteCount: values.count)
        }
      }
    }
  }

  /// Writes a row's `code - zero` as bfloat16, which is exact, `width` values from group to group.
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

  func plainIntegers(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, _ target: ProductTarget,
    on compute: Compute
  ) {
    let (t, k, n, zero) = (inputs.tokens, inputs.columns, part.count, inputs.zero)
    var offsets = [Int32](repeating: 0, count: groups.count * n)
    let w = unsafe compute.scratch.take(.weights, n * k).assumingMemoryBound(to: Int8.self)
    unsafe offsets.withUnsafeMutableBufferPointer { offsets in
      compute.ranges(of: n, grain: 16) { rows, _ in
        unsafe withRows(1, k) { zeros in
          for row in rows {
            unsafe spreadCodes(part.lowerBound + row, into: w + row * k, width: groups.width)
            unsafe self.offsets(
              zeros.assumingMemoryBound(to: Int8.self), w + row * k, columns: k,
              width: groups.width, zero: zero, into: offsets.baseAddress! + row, every: n)
          }
        }
      }
    }
    let (x, rowScales, columnScales) = unsafe (inputs.codes!, inputs.scales!, columnScales(part))
    compute.ranges(of: t, grain: slab(inputs: k)) { tokens, _ in
      nibble_use_one_openmp_thread()
      unsafe withUnsafeTemporaryAllocation(of: Int32.self, capacity: tokens.count * n) { sums in
        for group in 0..<groups.count {
          let values = groups.inputs(of: group, columns: k)
          var nothing: Int32 = 0
          let status = unsafe dnnl_gemm_s8s8s32(
            CChar(bitPattern: UInt8(ascii: "N")), CChar(bitPattern: UInt8(ascii: "T")),
            CChar(bitPattern: UInt8(ascii: "F")), dnnl_dim_t(tokens.count), dnnl_dim_t(n),
            dnnl_dim_t(values.count), 1, x + tokens.lowerBound * k + values.lowerBound,
            dnnl_dim_t(k), 0, w + values.lowerBound, dnnl_dim_t(k), 0, 0, sums.baseAddress!,
            dnnl_dim_t(n), &nothing)
          precondition(status == dnnl_success, "oneDNN int8 product: status \(status.rawValue)")
          let columns = group / groups.perWeightScale * n
          for token in tokens {
            let y = unsafe target.y + token * target.stride
            let rowScale = unsafe rowScales[group / groups.perInputScale * t + token]
            for output in 0..<n {
              let sum = unsafe sums[(token - tokens.lowerBound) * n + output]
              let value =
                Float(sum &+ offsets[group * n + output]) * rowScale
                * columnScales[columns + output]
              unsafe y[output] = group == 0 ? value : y[output] + value
            }
          }
        }
      }
    }
  }

  /// Scales both factors first: one float product.
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
    compute.ranges(of: t, grain: 16) { tokens, _ in
      for token in tokens {
        for start in stride(from: 0, to: k, by: span) {
          let (at, count) = (token * k + start, min(span, k - start))
          unsafe (x + at).update(from: codes + at, count: count)
          unsafe nibble_scale(x + at, scales[start / span * t + token], count)
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
