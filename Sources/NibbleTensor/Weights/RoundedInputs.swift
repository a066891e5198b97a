import CNibble

/// The inputs of a product after the activation scheme: as given, or as codes and their scales.
@safe struct RoundedInputs: ~Copyable {
  let tokens: Int
  let columns: Int
  /// `[t, k]`: the inputs, or with an activation scheme `code - zero` as floats, exactly.
  let floats: UnsafePointer<Float>
  /// `[t, k]` int8 codes.
  let codes: UnsafePointer<Int8>?
  /// What a code of zero stands for, in codes.
  let zero: Int32
  /// Neighbouring inputs that share a scale.
  let span: Int
  /// `[ceil(k / span), t]`, above zero.
  let scales: UnsafePointer<Float>?

  /// Rounds half to even: dynamic scales are `absmax / 127` or `absmax / 448`, 1 where all is zero;
  /// a static range is as ``InputRange`` says. What is not a number stays so: its scale is not a
  /// number either. Sources: vLLM's per-token kernels, DeepSeek-V3 for groups.
  init(
    _ x: UnsafePointer<Float>, tokens t: Int, columns k: Int, as rounding: InputRounding?,
    on compute: Compute
  ) {
    tokens = t
    columns = k
    zero = rounding?.range?.zero ?? 0
    guard let rounding else {
      unsafe floats = x
      unsafe codes = nil
      span = k
      unsafe scales = nil
      return
    }
    let format = rounding.scheme.format
    let span = rounding.scheme.span(inputs: k)
    let aligned = (t * k + 63) / 64 * 64
    let memory = unsafe compute.scratch.take(
      .rows, aligned * 5 + (k + span - 1) / span * t * 4)
    let values = unsafe memory.assumingMemoryBound(to: Float.self)
    let rounded = unsafe (memory + aligned * 4).assumingMemoryBound(to: Int8.self)
    let factors = unsafe (memory + aligned * 5).assumingMemoryBound(to: Float.self)
    let (zero, least): (Int32, Int32) = (self.zero, rounding.range == nil ? -127 : -128)
    var shared = rounding.range?.scale
    if case .dynamicPerTensor = rounding.scheme {
      shared = unsafe Self.scale(peak: Self.peak(x, tokens: t, columns: k, on: compute), format)
    }
    compute.ranges(of: t, grain: 16) { part, _ in
      for token in part {
        for start in stride(from: 0, to: k, by: span) {
          let count = min(span, k - start)
          let at = token * k + start
          let peak = unsafe nibble_absmax(x + at, count)
          let scale = peak.isNaN ? peak : shared ?? Self.scale(peak: peak, format)
          unsafe factors[start / span * t + token] = scale
          switch format {
          case .int8:
            unsafe nibble_round_int(x + at, rounded + at, count, scale, zero, least, 127)
            unsafe nibble_decode_int8(rounded + at, values + at, count, 1, zero)
          case .e4m3:
            unsafe (rounded + at).withMemoryRebound(to: UInt8.self, capacity: count) { codes in
              unsafe nibble_round_e4m3(x + at, codes, count, scale)
              unsafe nibble_e4m3_to_f32(codes, values + at, count)
            }
          }
        }
      }
    }
    unsafe floats = UnsafePointer(values)
    unsafe codes = format == .int8 ? UnsafePointer(rounded) : nil
    self.span = span
    unsafe scales = UnsafePointer(factors)
  }

  private static func scale(peak: Float, _ format: ActivationScheme.Format) -> Float {
    peak == 0 ? 1 : max(peak / (format == .int8 ? 127 : 448), .leastNormalMagnitude)
  }

  /// Largest magnitude of all tokens; not a number when one of them is not.
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
