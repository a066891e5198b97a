import CNibble

/// The inputs of a product after activation quantization: unchanged floats, or codes with their
/// scales.
@safe struct RoundedInputs: ~Copyable {
  /// Format of the inputs in the product.
  enum Factors: Hashable {
    case floats
    /// int8 codes, with their sums over groups of this many neighbouring inputs.
    case codes(group: Int)
  }

  let tokens: Int
  let columns: Int
  /// `[t, k]`: the inputs, or with an activation scheme `code - zero` as exact floats; nil when the
  /// factors are codes.
  private let values: UnsafePointer<Float>?
  /// `[t, stride]` int8 codes, zero from k on; nil when the factors are floats.
  let codes: UnsafePointer<Int8>?
  let stride: Int
  /// Sums of the codes, `[groups, step]`.
  let sums: UnsafePointer<Int32>?
  /// Zero point of the inputs, in codes.
  let zero: Int32
  /// Neighbouring inputs per scale.
  let span: Int
  /// `[ceil(k / span), step]`, above zero.
  let scales: UnsafePointer<Float>?
  /// Distance between groups in `scales` and `sums`: the token count, padded so that the 16 tokens
  /// which one thread rounds have their own cache lines.
  let step: Int

  var floats: UnsafePointer<Float> { unsafe values! }

  /// Rounds half to even. Dynamic scales are `absmax / 127` or `absmax / 448`, 1 where all values
  /// are zero; a static range is applied as ``InputRange`` says. A NaN input gives a NaN scale.
  /// Sources: vLLM's per-token kernels, DeepSeek-V3 for groups.
  init(
    _ x: UnsafePointer<Float>, tokens t: Int, columns k: Int, as rounding: InputRounding?,
    factors: Factors = .floats, on compute: Compute
  ) {
    tokens = t
    columns = k
    zero = rounding?.range?.zero ?? 0
    let stride = (k + 63) / 64 * 64
    self.stride = stride
    let step = (t + 15) / 16 * 16
    self.step = step
    guard let rounding else {
      unsafe values = x
      unsafe codes = nil
      unsafe sums = nil
      span = k
      unsafe scales = nil
      return
    }
    let span = rounding.scheme.span(inputs: k)
    let format = rounding.scheme.format
    let group: Int? = if case .codes(let group) = factors { group } else { nil }
    precondition(group == nil || format == .int8, "sums of \(format)")
    let sumCount = group.map { (k + $0 - 1) / $0 * step } ?? 0
    let floatBytes = group == nil ? (t * k * 4 + 63) / 64 * 64 : 0
    let scaleBytes = (k + span - 1) / span * step * 4
    // When floats are wanted, the codes of one row at a time.
    let codeBytes = (group == nil ? compute.pool.threads : t) * stride
    let memory = unsafe compute.scratch.take(
      .rows, codeBytes + floatBytes + scaleBytes + sumCount * 4)
    let rounded = unsafe memory.assumingMemoryBound(to: Int8.self)
    let floats = unsafe (memory + codeBytes).assumingMemoryBound(to: Float.self)
    let factorsOut = unsafe floats + floatBytes / 4
    let sums = unsafe UnsafeMutableRawPointer(factorsOut + scaleBytes / 4).assumingMemoryBound(
      to: Int32.self)
    let (zero, least): (Int32, Int32) = (self.zero, rounding.range == nil ? -127 : -128)
    var shared = rounding.range?.scale
    if case .dynamicPerTensor = rounding.scheme {
      shared = unsafe Self.scale(peak: Self.peak(x, tokens: t, columns: k, on: compute), format)
    }
    compute.ranges(of: t, grain: 16) { part, worker in
      for token in part {
        let row = unsafe rounded + (group == nil ? worker : token) * stride
        if format == .int8, shared == nil {
          unsafe nibble_round_groups(
            x + token * k, k, span, row, factorsOut + token,
            group == span ? sums + token : nil, step)
        } else {
          for start in Swift.stride(from: 0, to: k, by: span) {
            let count = min(span, k - start)
            let from = unsafe x + token * k + start
            let peak = unsafe nibble_absmax(from, count)
            let scale = peak.isNaN ? peak : shared ?? Self.scale(peak: peak, format)
            unsafe factorsOut[start / span * step + token] = scale
            switch format {
            case .int8: unsafe nibble_round_int(from, row + start, count, scale, zero, least, 127)
            case .e4m3:
              unsafe (row + start).withMemoryRebound(to: UInt8.self, capacity: count) { codes in
                unsafe nibble_round_e4m3(from, codes, count, scale)
                unsafe nibble_e4m3_to_f32(codes, floats + token * k + start, count)
              }
            }
          }
        }
        guard let group else {
          if format == .int8 {
            unsafe nibble_decode_int8(row, floats + token * k, k, 1, zero)
          }
          continue
        }
        for i in k..<stride { unsafe row[i] = 0 }
        if group != span || shared != nil {
          unsafe nibble_sums_s8(row, sums + token, k, group, step)
        }
      }
    }
    unsafe values = group == nil ? UnsafePointer(floats) : nil
    unsafe codes = group == nil ? nil : UnsafePointer(rounded)
    unsafe self.sums = group == nil ? nil : UnsafePointer(sums)
    self.span = span
    unsafe scales = UnsafePointer(factorsOut)
  }

  /// The inputs in the form that the panel kernels read.
  func panelInputs(groups: ProductGroups) -> nibble_inputs {
    if let codes = unsafe codes {
      return unsafe nibble_inputs(
        values: codes, stride: stride, tokens: tokens, scales: scales,
        scale_span: groups.perInputScale, sums: sums, step: step, zero: zero)
    }
    return unsafe nibble_inputs(
      values: floats, stride: columns, tokens: tokens, scales: scales,
      scale_span: groups.perInputScale, sums: nil, step: step, zero: 0)
  }

  /// Sums of the inputs, as rounded, over each `span` neighbouring ones: `[t, ceil(k / span)]` in
  /// scratch memory.
  ///
  /// - Parameter groups: those of the codes' sums, which divide the spans.
  func sums(ofEach span: Int, _ groups: ProductGroups, on compute: Compute) -> UnsafePointer<Float>
  {
    let (k, perRow) = (columns, (columns + span - 1) / span)
    let out = unsafe compute.scratch.take(.offsets, tokens * perRow * 4)
      .assumingMemoryBound(to: Float.self)
    compute.ranges(of: tokens, grain: 16) { part, _ in
      for token in part {
        let line = unsafe out + token * perRow
        unsafe line.update(repeating: 0, count: perRow)
        if let sums = unsafe sums, let scales = unsafe scales {
          groups.visit { group, index in
            let count = Int32(groups.inputs(of: group, columns: k).count)
            let sum = unsafe sums[group * step + token] &- zero * count
            unsafe line[index] +=
              Float(sum) * scales[group / groups.perInputScale * step + token]
          }
        } else {
          for index in 0..<perRow {
            for i in index * span..<min(k, (index + 1) * span) {
              unsafe line[index] += floats[token * k + i]
            }
          }
        }
      }
    }
    return unsafe UnsafePointer(out)
  }

  private static func scale(peak: Float, _ format: ActivationScheme.Format) -> Float {
    peak == 0 ? 1 : max(peak / (format == .int8 ? 127 : 448), .leastNormalMagnitude)
  }

  /// Largest magnitude of all tokens; NaN when any input is NaN.
  private static func peak(
    _ x: UnsafePointer<Float>, tokens t: Int, columns k: Int, on compute: Compute
  ) -> Float {
    var peaks = [Float](repeating: 0, count: t)
    return unsafe peaks.withUnsafeMutableBufferPointer { peaks in
      compute.ranges(of: t, grain: 16) { part, _ in
        for token in part { unsafe peaks[token] = nibble_absmax(x + token * k, k) }
      }
      return unsafe nibble_absmax(peaks.baseAddress!, t)
    }
  }
}
