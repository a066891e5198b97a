import CNibble

extension InputRounding {
  /// The activation as the quantized layer sees it: quantized and dequantized, `[t, k]`.
  ///
  /// - Parameter x: `[t, k]`.
  public func rounded(_ x: [Float], columns k: Int, on compute: Compute) -> [Float] {
    let t = x.count / k
    precondition(x.count == t * k, "\(x.count) values are not rows of \(k)")
    guard t > 0 else { return [] }
    return unsafe x.withUnsafeBufferPointer { x in
      let inputs = unsafe RoundedInputs(
        x.baseAddress!, tokens: t, columns: k, as: self, on: compute)
      return unsafe [Float](unsafeUninitializedCapacity: t * k) { out, initialized in
        let base = out.baseAddress!
        let (values, scales, span) = unsafe (inputs.floats, inputs.scales!, inputs.span)
        let step = inputs.step
        compute.ranges(of: t, grain: 16) { part, _ in
          unsafe (base + part.lowerBound * k).update(
            from: values + part.lowerBound * k, count: part.count * k)
          for token in part {
            for start in stride(from: 0, to: k, by: span) {
              unsafe nibble_scale(
                base + token * k + start, scales[start / span * step + token], min(span, k - start))
            }
          }
        }
        initialized = t * k
      }
    }
  }
}
