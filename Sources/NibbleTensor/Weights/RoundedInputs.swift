import CNibble

/// The inputs of a product after the activation scheme: as given, or as codes and a scale a token.
@safe struct RoundedInputs: ~Copyable {
  let tokens: Int
  let columns: Int
  /// `[t, k]`: the inputs, or with an activation scheme the codes as floats (scale left out).
  let floats: UnsafePointer<Float>
  /// `[t, k]` int8 codes.
  let codes: UnsafePointer<Int8>?
  /// `[t]`, above zero.
  let scales: UnsafePointer<Float>?

  /// Rounds each token symmetrically: `scale = absmax / largest`, `code = x / scale`, half to even;
  /// a token of zeros has scale 1. Source: vLLM's dynamic per-token kernels.
  init(
    _ x: UnsafePointer<Float>, tokens t: Int, columns k: Int, as format: ActivationScheme.Format?,
    on compute: Compute
  ) {
    tokens = t
    columns = k
    guard let format else {
      unsafe floats = x
      unsafe codes = nil
      unsafe scales = nil
      return
    }
    let aligned = (t * k + 63) / 64 * 64
    let memory = unsafe compute.scratch.take(.rows, aligned * 5 + t * 4)
    let values = unsafe memory.assumingMemoryBound(to: Float.self)
    let rounded = unsafe (memory + aligned * 4).assumingMemoryBound(to: Int8.self)
    let factors = unsafe (memory + aligned * 5).assumingMemoryBound(to: Float.self)
    compute.ranges(of: t, grain: 16) { part, _ in
      for token in part {
        let row = unsafe x + token * k
        let peak = unsafe nibble_absmax(row, k)
        let largest: Float = format == .int8 ? 127 : 448
        // A token that is not a number stays one: its scale is not a number either.
        let scale = peak == 0 ? 1 : max(peak / largest, .leastNormalMagnitude)
        unsafe factors[token] = scale
        let codes = unsafe rounded + token * k
        switch format {
        case .int8:
          unsafe nibble_round_int(row, codes, k, scale, 0, -127, 127)
          unsafe nibble_decode_int8(codes, values + token * k, k, 1, 0)
        case .e4m3:
          unsafe codes.withMemoryRebound(to: UInt8.self, capacity: k) { codes in
            unsafe nibble_round_e4m3(row, codes, k, scale)
            unsafe nibble_e4m3_to_f32(codes, values + token * k, k)
          }
        }
      }
    }
    unsafe floats = UnsafePointer(values)
    unsafe codes = format == .int8 ? UnsafePointer(rounded) : nil
    unsafe scales = UnsafePointer(factors)
  }
}
