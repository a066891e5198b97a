import CNibble
import COneDNN

extension Weight {
  /// `y = x · Wᵀ`: x `[t, k]`, y `[t, n]`, overwritten.
  ///
  /// A float weight, or one whose activations stay float, multiplies in the precision of `compute`.
  /// int8 codes with int8 activations multiply exactly in integers; fp8 codes with fp8 activations are
  /// exact in either precision but for the float sum. The arithmetic of a row does not depend on the
  /// number of threads, but products of up to four tokens sum in another order than larger ones.
  public func multiply(_ x: Span<Float>, into y: inout MutableSpan<Float>, on compute: Compute) {
    let (n, k) = (rows, columns)
    precondition(x.count.isMultiple(of: k), "\(x.count) values are not rows of \(k)")
    let t = x.count / k
    precondition(y.count == t * n, "\(y.count) results for [\(t), \(n)]")
    guard t > 0, n > 0 else { return }
    unsafe x.withUnsafeBufferPointer { x in
      unsafe y.withUnsafeMutableBufferPointer { y in
        let inputs = unsafe RoundedInputs(
          x.baseAddress!, tokens: t, columns: k, as: activations?.format, on: compute)
        if t <= 4 {
          unsafe multiplyFew(inputs, into: y.baseAddress!, on: compute)
        } else {
          unsafe multiplyMany(inputs, into: y.baseAddress!, on: compute)
        }
      }
    }
  }

  var activations: ActivationScheme? {
    if case .quantized(_, let activations) = self { activations } else { nil }
  }

  private func multiplyFew(
    _ inputs: borrowing RoundedInputs, into y: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    let (n, k, t) = (rows, columns, inputs.tokens)
    compute.ranges(of: n, grain: 64) { part, _ in
      for token in 0..<t {
        let out = unsafe y + token * n + part.lowerBound
        let x = unsafe inputs.floats + token * k
        switch self {
        case .float(let matrix):
          unsafe matrix.bytes.withUnsafeBytes {
            let w = unsafe $0.baseAddress! + part.lowerBound * matrix.rowBytes
            switch matrix.format {
            case .f32: unsafe nibble_matvec_f32(x, w, out, k, part.count)
            case .f16: unsafe nibble_matvec_f16(x, w, out, k, part.count)
            case .bf16: unsafe nibble_matvec_bf16(x, w, out, k, part.count)
            }
          }
        case .quantized(let matrix, let activations):
          if activations?.format == .int8, matrix.multipliesIntegers, let scales = matrix.rowScales
          {
            unsafe matrix.codes.withUnsafeBytes { codes in
              for row in part {
                var sum: Int32 = 0
                unsafe nibble_matvec_s8(
                  inputs.codes! + token * k,
                  codes.baseAddress!.assumingMemoryBound(to: Int8.self) + row * k, &sum, k, 1)
                unsafe out[row - part.lowerBound] =
                  Float(sum) * inputs.scales![token] * scales[row]
              }
            }
          } else {
            unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: k) { row in
              for r in part {
                unsafe matrix.decode(r..<r + 1, into: row.baseAddress!)
                let sum = unsafe nibble_dot_f32(x, row.baseAddress!, k)
                unsafe out[r - part.lowerBound] = sum * (inputs.scales?[token] ?? 1)
              }
            }
          }
        }
      }
    }
  }

  private func multiplyMany(
    _ inputs: borrowing RoundedInputs, into y: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    let (n, k) = (rows, columns)
    // The scale of a row that the product leaves out and the end multiplies back.
    var rowScales: [Float]?
    var integer: QuantizedMatrix?
    if case .quantized(let matrix, let activations?) = self, let scales = matrix.rowScales {
      rowScales = scales
      if activations.format == .int8, matrix.multipliesIntegers { integer = matrix }
    }
    let unscaled = rowScales != nil
    // Weights are widened or packed some rows at a time, so that scratch stays near 16 MiB.
    let chunk = min((n + 31) / 32 * 32, max(32, (4 << 20) / k / 32 * 32))
    for start in stride(from: 0, to: n, by: chunk) {
      let part = start..<min(n, start + chunk)
      let target = unsafe ProductTarget(
        y: y + start, stride: n, outputs: part.count,
        columnScales: rowScales.map { Array($0[part]) })
      if let integer {
        if hasTilesHere {
          TileProduct.integers(inputs, integer, part, target, on: compute)
        } else {
          PlainProduct.integers(inputs, integer, part, target, on: compute)
        }
      } else if compute.precision == .bf16 && hasTilesHere {
        TileProduct.bfloats(inputs, self, part, unscaled: unscaled, target, on: compute)
      } else {
        PlainProduct.floats(inputs, self, part, unscaled: unscaled, target, on: compute)
      }
    }
  }
}

extension QuantizedMatrix {
  /// Whether a product with int8 activations is one integer sum a row.
  var multipliesIntegers: Bool {
    scheme.format == .int(bits: 8, symmetric: true) && rowScales != nil && columns < 131_072
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
