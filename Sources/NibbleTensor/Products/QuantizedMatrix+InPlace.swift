import CNibble

extension QuantizedMatrix {
  /// Products of some tokens with some rows, read from the stored codes, each code once. `y` is
  /// `[t, stride]`, of which the columns in `part` are overwritten.
  func multiplyInPlace(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, into y: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    let groups = ProductGroups(columns: columns, inputSpan: inputs.span, weightSpan: grid.columns)
    if unsafe inputs.codes != nil {
      unsafe multiplyIntegers(inputs, part, groups, into: y, stride: stride)
    } else {
      unsafe multiplyFloats(inputs, part, groups, into: y, stride: stride)
    }
  }

  private func multiplyIntegers(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, _ groups: ProductGroups,
    into y: UnsafeMutablePointer<Float>, stride: Int
  ) {
    let (k, x, zero, t) = unsafe (columns, inputs.codes!, inputs.zero, inputs.tokens)
    let inputStride = inputs.stride
    let xScales = inputScales(inputs, groups)
    let (inputSums, step) = unsafe (inputs.sums!, inputs.step)
    let grid = grid
    unsafe codes.withUnsafeBytes { codes in
      unsafe withUnsafeTemporaryAllocation(of: Int32.self, capacity: groups.count) { sums in
        unsafe withUnsafeTemporaryAllocation(of: Int8.self, capacity: k) { wide in
          for row in part {
            var w = unsafe UnsafePointer(wide.baseAddress!)
            if scheme.bits == 4 {
              unsafe nibble_unpack_int4(
                codes.baseAddress!.assumingMemoryBound(to: UInt8.self) + row * k / 2,
                wide.baseAddress!, k)
            } else {
              unsafe w = codes.baseAddress!.assumingMemoryBound(to: Int8.self) + row * k
            }
            let first = grid.index(row: row)
            for token in 0..<t {
              unsafe nibble_group_sums_s8(
                x + token * inputStride, w, sums.baseAddress!, k, groups.width, zero)
              var sum: Float = 0
              groups.visit { group, index in
                var exact = unsafe sums[group]
                let xScale = xScales[token * groups.count + group]
                let xSum = unsafe inputSums[group * step + token] &- zero * Int32(groups.width)
                if !zeroPoints.isEmpty {
                  exact &-= Int32(zeroPoints[first + index]) &* xSum
                }
                sum += Float(exact) * xScale * scales[first + index]
                if !offsets.isEmpty { sum += Float(xSum) * xScale * offsets[first + index] }
              }
              unsafe y[token * stride + row] = sum
            }
          }
        }
      }
    }
  }

  /// The scale of each token's inputs in each group, `[t, groups]`.
  private func inputScales(
    _ inputs: borrowing RoundedInputs, _ groups: ProductGroups
  ) -> [Float] {
    guard let scales = unsafe inputs.scales else { return [] }
    let (t, step) = (inputs.tokens, inputs.step)
    return (0..<t * groups.count).map {
      let (token, group) = ($0 / groups.count, $0 % groups.count)
      return unsafe scales[group / groups.perInputScale * step + token]
    }
  }

  private func multiplyFloats(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, _ groups: ProductGroups,
    into y: UnsafeMutablePointer<Float>, stride: Int
  ) {
    let (k, x, t) = unsafe (columns, inputs.floats, inputs.tokens)
    let grid = grid
    let xScales = inputScales(inputs, groups)
    unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: k) { values in
      let w = values.baseAddress!
      for row in part {
        unsafe decode(row..<row + 1, into: w, unscaled: !xScales.isEmpty)
        let first = grid.index(row: row)
        for token in 0..<t {
          guard !xScales.isEmpty else {
            unsafe y[token * stride + row] = nibble_dot_f32(x + token * k, w, k)
            continue
          }
          var sum: Float = 0
          groups.visit { group, index in
            let inputs = groups.inputs(of: group, columns: k)
            unsafe sum +=
              nibble_dot_f32(
                x + token * k + inputs.lowerBound, w + inputs.lowerBound, inputs.count)
              * xScales[token * groups.count + group] * scales[first + index]
          }
          unsafe y[token * stride + row] = sum
        }
      }
    }
  }
}
