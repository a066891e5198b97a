import CNibble
import COneDNN

/// Products by oneDNN, one thread per slab of tokens.
enum PlainProduct {
  /// Product of float factors. In bf16 both are rounded to bfloat16 first; their products are then
  /// exact.
  static func floats(
    _ inputs: borrowing RoundedInputs, _ weight: PreparedWeight, _ part: Range<Int>, unscaled: Bool,
    _ target: ProductTarget, on compute: Compute
  ) {
    let (t, k, n) = (inputs.tokens, inputs.columns, target.outputs)
    let rounds = compute.precision == .bf16
    let w = unsafe compute.scratch.take(.weights, n * k * 4).assumingMemoryBound(to: Float.self)
    compute.ranges(of: n, grain: 32) { rows, _ in
      let first = part.lowerBound + rows.lowerBound
      unsafe weight.widen(
        first..<first + rows.count, into: w + rows.lowerBound * k, unscaled: unscaled)
      if rounds { unsafe roundToBFloat(w + rows.lowerBound * k, rows.count * k) }
    }
    var x = unsafe inputs.floats
    if rounds {
      let copy = unsafe compute.scratch.take(.activations, t * k * 4)
        .assumingMemoryBound(to: Float.self)
      let source = unsafe x
      compute.ranges(of: t, grain: 16) { tokens, _ in
        unsafe (copy + tokens.lowerBound * k).update(
          from: source + tokens.lowerBound * k, count: tokens.count * k)
        unsafe roundToBFloat(copy + tokens.lowerBound * k, tokens.count * k)
      }
      unsafe x = UnsafePointer(copy)
    }
    let factors = unsafe x
    let scales = unsafe inputs.scales
    let outputsAtOnce = 256
    let columns = (n + outputsAtOnce - 1) / outputsAtOnce
    let tokensAtOnce = slab(inputs: k)
    compute.pool.run((t + tokensAtOnce - 1) / tokensAtOnce * columns) { task, _ in
      let token = task / columns * tokensAtOnce
      let output = task % columns * outputsAtOnce
      let (m, outputs) = (min(tokensAtOnce, t - token), min(outputsAtOnce, n - output))
      let y = unsafe target.y + token * target.stride + output
      unsafe multiplyTransposed(
        factors + token * k, w + output * k, y, m, outputs, k, yStride: target.stride)
      unsafe scale(y, m, outputs, target, scales.map { unsafe $0 + token }, output)
    }
  }

  /// `y[m, n] = alpha · a[m, k] · b[n, k]ᵀ` on the calling thread.
  static func multiplyTransposed(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>,
    _ m: Int, _ n: Int, _ k: Int, alpha: Float = 1, aStride: Int? = nil, yStride: Int
  ) {
    OpenMP.useOneThread()
    let status = unsafe dnnl_sgemm(
      CChar(bitPattern: UInt8(ascii: "N")), CChar(bitPattern: UInt8(ascii: "T")), dnnl_dim_t(m),
      dnnl_dim_t(n), dnnl_dim_t(k), alpha, a, dnnl_dim_t(aStride ?? k), b, dnnl_dim_t(k), 0, y,
      dnnl_dim_t(yStride))
    precondition(status == dnnl_success, "oneDNN product: status \(status.rawValue)")
  }

  /// `y[m, n] = a[m, k] · b[k, n] + beta · y` on the calling thread.
  static func multiply(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>,
    _ m: Int, _ n: Int, _ k: Int, aStride: Int, bStride: Int? = nil, yStride: Int,
    beta: Float = 0
  ) {
    OpenMP.useOneThread()
    let plain = CChar(bitPattern: UInt8(ascii: "N"))
    let status = unsafe dnnl_sgemm(
      plain, plain, dnnl_dim_t(m), dnnl_dim_t(n), dnnl_dim_t(k), 1, a, dnnl_dim_t(aStride), b,
      dnnl_dim_t(bStride ?? n), beta, y, dnnl_dim_t(yStride))
    precondition(status == dnnl_success, "oneDNN product: status \(status.rawValue)")
  }

  /// `y[m, n] += a[t, m]ᵀ · b[t, n]` on the calling thread; rows of `aStride`, `bStride` floats, y as
  /// b unless it has a stride of its own.
  static func accumulate(
    turned a: UnsafePointer<Float>, _ aStride: Int, _ b: UnsafePointer<Float>, _ bStride: Int,
    into y: UnsafeMutablePointer<Float>, yStride: Int? = nil, _ m: Int, _ n: Int, _ t: Int
  ) {
    OpenMP.useOneThread()
    let status = unsafe dnnl_sgemm(
      CChar(bitPattern: UInt8(ascii: "T")), CChar(bitPattern: UInt8(ascii: "N")), dnnl_dim_t(m),
      dnnl_dim_t(n), dnnl_dim_t(t), 1, a, dnnl_dim_t(aStride), b, dnnl_dim_t(bStride), 1, y,
      dnnl_dim_t(yStride ?? bStride))
    precondition(status == dnnl_success, "oneDNN product: status \(status.rawValue)")
  }

  private static func roundToBFloat(_ values: UnsafeMutablePointer<Float>, _ count: Int) {
    unsafe withUnsafeTemporaryAllocation(of: UInt16.self, capacity: 1024) { halves in
      for start in stride(from: 0, to: count, by: 1024) {
        let length = min(1024, count - start)
        unsafe nibble_f32_to_bf16(values + start, halves.baseAddress!, length)
        unsafe nibble_bf16_to_f32(halves.baseAddress!, values + start, length)
      }
    }
  }

  private static func scale(
    _ y: UnsafeMutablePointer<Float>, _ m: Int, _ n: Int, _ target: ProductTarget,
    _ rowScales: UnsafePointer<Float>?, _ output: Int
  ) {
    guard let rowScales = unsafe rowScales else { return }
    for row in 0..<m {
      let line = unsafe y + row * target.stride
      let factor = unsafe rowScales[row]
      if let columns = target.columnScales {
        for column in 0..<n { unsafe line[column] *= factor * columns[output + column] }
      } else {
        unsafe nibble_scale(line, factor, n)
      }
    }
  }
}

/// Tokens per slab: few enough that their inputs stay in the second-level cache. Depends only on
/// the number of inputs.
func slab(inputs k: Int) -> Int { k <= 2048 ? 256 : 128 }
