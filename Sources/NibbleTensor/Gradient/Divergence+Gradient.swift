import CNibble

extension Compute {
  /// Replaces logits by the gradient of `T² KL(p ‖ q)`, with the source's p = softmax(b / T) and
  /// q = softmax(x / T): `T (q - p)`. Returns the divergence of each row, in nats.
  ///
  /// Source: arXiv 1503.02531, section 2.1.
  ///
  /// - Parameters:
  ///   - logits: x, `[rows, width]`.
  ///   - base: b, `[rows, width]`; overwritten.
  package func divergenceGradient(
    _ logits: inout [Float], from base: inout [Float], rows: Int, temperature: Float
  ) -> [Double] {
    let width = logits.count / max(1, rows)
    precondition(logits.count == width * rows && base.count == logits.count, "rows of \(width)")
    return unsafe logits.withUnsafeMutableBufferPointer { logits in
      unsafe base.withUnsafeMutableBufferPointer { base in
        unsafe [Double](unsafeUninitializedCapacity: rows) { divergences, initialized in
          pool.run(rows) { row, _ in
            let x = unsafe logits.baseAddress! + row * width
            let p = unsafe base.baseAddress! + row * width
            if temperature != 1 {
              unsafe nibble_scale(x, 1 / temperature, width)
              unsafe nibble_scale(p, 1 / temperature, width)
            }
            let sums = unsafe (nibble_log_sum_exp(p, width), nibble_log_sum_exp(x, width))
            let found = unsafe nibble_kl(p, x, sums.0, sums.1, width)
            unsafe divergences[row] = Double(temperature * temperature) * found
            unsafe nibble_softmax(x, width)
            unsafe nibble_softmax(p, width)
            unsafe nibble_add_scaled(x, p, -1, width)
            if temperature != 1 { unsafe nibble_scale(x, temperature, width) }
          }
          initialized = rows
        }
      }
    }
  }
}
