import CNibble
import COneDNN

extension Weight {
  /// `y = x · Wᵀ`: x `[t, k]`, y `[t, n]`, overwritten.
  ///
  /// A float weight, or one whose activations stay float, multiplies in the precision of `compute`.
  /// Symmetric int8 and int4 codes with int8 activations multiply exactly in integers, group by group
  /// where scales change along the inputs; other codes with rounded activations are exact in either
  /// precision but for the float sum. The arithmetic of a row does not depend on the number of
  /// threads, but products of up to four tokens sum in another order than larger ones.
  public func multiply(_ x: Span<Float>, into y: inout MutableSpan<Float>, on compute: Compute) {
    let (n, k) = (rows, columns)
    precondition(x.count.isMultiple(of: k), "\(x.count) values are not rows of \(k)")
    let t = x.count / k
    precondition(y.count == t * n, "\(y.count) results for [\(t), \(n)]")
    guard t > 0, n > 0 else { return }
    unsafe x.withUnsafeBufferPointer { x in
      unsafe y.withUnsafeMutableBufferPointer { y in
        let inputs = unsafe RoundedInputs(
          x.baseAddress!, tokens: t, columns: k, as: inputRounding, on: compute)
        if t <= 4 {
          unsafe multiplyFew(inputs, into: y.baseAddress!, on: compute)
        } else {
          unsafe multiplyMany(inputs, into: y.baseAddress!, on: compute)
        }
      }
    }
  }

  private var inputRounding: InputRounding? {
    if case .quantized(_, let rounding) = self { rounding } else { nil }
  }

  private func multiplyFew(
    _ inputs: borrowing RoundedInputs, into y: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    let (n, k, t) = (rows, columns, inputs.tokens)
    compute.ranges(of: n, grain: 64) { part, _ in
      switch self {
      case .float(let matrix):
        for token in 0..<t {
          let out = unsafe y + token * n + part.lowerBound
          let x = unsafe inputs.floats + token * k
          unsafe matrix.bytes.withUnsafeBytes {
            let w = unsafe $0.baseAddress! + part.lowerBound * matrix.rowBytes
            switch matrix.format {
            case .f32: unsafe nibble_matvec_f32(x, w, out, k, part.count)
            case .f16: unsafe nibble_matvec_f16(x, w, out, k, part.count)
            case .bf16: unsafe nibble_matvec_bf16(x, w, out, k, part.count)
            }
          }
        }
      case .quantized(let matrix, let rounding):
        unsafe matrix.multiplyFew(
          inputs, part, into: y, inIntegers: matrix.multipliesIntegers(with: rounding))
      }
    }
  }

  private func multiplyMany(
    _ inputs: borrowing RoundedInputs, into y: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    let (n, k) = (rows, columns)
    // Weights are widened or packed some rows at a time, so that scratch stays near 16 MiB.
    let chunk = min((n + 31) / 32 * 32, max(32, (4 << 20) / k / 32 * 32))
    for start in stride(from: 0, to: n, by: chunk) {
      let part = start..<min(n, start + chunk)
      var target = unsafe ProductTarget(y: y + start, stride: n, outputs: part.count)
      guard case .quantized(let matrix, let rounding?) = self else {
        floats(inputs, part, unscaled: false, target, on: compute)
        continue
      }
      let grid = matrix.grid
      let groups = ProductGroups(columns: k, inputSpan: inputs.span, weightSpan: grid.columns)
      let isInteger = matrix.multipliesIntegers(with: rounding)
      if groups.count > 1 || isInteger && (matrix.scheme.bits == 4 || inputs.zero != 0) {
        GroupedProduct(matrix: matrix, groups: groups, isInteger: isInteger)
          .run(inputs, part, target, on: compute)
        continue
      }
      // One scale a row: the product leaves it out and the end multiplies it back.
      target.columnScales = part.map { matrix.scales[grid.index(row: $0)] }
      if !isInteger {
        floats(inputs, part, unscaled: true, target, on: compute)
      } else if hasTilesHere {
        TileProduct.integers(inputs, matrix, part, target, on: compute)
      } else {
        PlainProduct.integers(inputs, matrix, part, target, on: compute)
      }
    }
  }

  private func floats(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, unscaled: Bool,
    _ target: ProductTarget, on compute: Compute
  ) {
    if compute.precision == .bf16 && hasTilesHere {
      TileProduct.bfloats(inputs, self, part, unscaled: unscaled, target, on: compute)
    } else {
      PlainProduct.floats(inputs, self, part, unscaled: unscaled, target, on: compute)
    }
  }
}

/// Where a product goes: `outputs` columns of rows that are `stride` floats apart.
@safe struct ProductTarget {
  var y: UnsafeMutablePointer<Float>
  var stride: Int
  var outputs: Int
  /// `[outputs]`, or nil for 1.
  var columnScales: [Float]?
}

/// Tokens whose products are computed together: small enough that their packed inputs stay in the
/// second-level cache, and a function of the number of inputs alone.
func slab(inputs k: Int) -> Int { k <= 2048 ? 256 : 128 }
