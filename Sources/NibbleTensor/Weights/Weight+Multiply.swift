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
    PreparedWeight(self).multiply(x, into: &y, on: compute)
  }

  var inputRounding: InputRounding? {
    if case .quantized(_, let rounding) = self { rounding } else { nil }
  }

  /// The product of many tokens, when scales change along the inputs or codes must be changed before
  /// they multiply.
  var grouped: GroupedProduct? {
    guard case .quantized(let matrix, let rounding?) = self else { return nil }
    let groups = ProductGroups(
      columns: columns, inputSpan: rounding.scheme.span(inputs: columns),
      weightSpan: matrix.grid.columns)
    let isInteger = matrix.multipliesIntegers(with: rounding)
    let changesCodes = matrix.scheme.bits == 4 || rounding.range?.zero ?? 0 != 0
    guard groups.count > 1 || isInteger && changesCodes else { return nil }
    return GroupedProduct(matrix: matrix, groups: groups, isInteger: isInteger)
  }

  /// The scale of each row, when codes multiply without it and the end of the product brings it back.
  var scaledRows: [Float]? {
    guard case .quantized(let matrix, _?) = self, grouped == nil else { return nil }
    let grid = matrix.grid
    return (0..<rows).map { matrix.scales[grid.index(row: $0)] }
  }

  /// The codes, when a product is one integer sum an output.
  var integers: QuantizedMatrix? {
    guard case .quantized(let matrix, let rounding) = self, grouped == nil,
      matrix.multipliesIntegers(with: rounding)
    else { return nil }
    return matrix
  }

  /// How products of more than four tokens lie in tiles; nil without tiles.
  func tileLayout(on compute: Compute) -> TileLayout? {
    guard hasTilesHere, grouped == nil else { return nil }
    return integers != nil ? .codes : .floats(parts: compute.parts)
  }
}

extension PreparedWeight {
  /// `Weight.multiply`, with the tiles that are there.
  public func multiply(_ x: Span<Float>, into y: inout MutableSpan<Float>, on compute: Compute) {
    let t = tokens(x, y.count)
    guard t > 0 else { return }
    unsafe x.withUnsafeBufferPointer { x in
      unsafe y.withUnsafeMutableBufferPointer { y in
        let inputs = unsafe ProductInputs(x.baseAddress!, tokens: t, for: weight, on: compute)
        unsafe multiply(inputs, into: y.baseAddress!, on: compute)
      }
    }
  }

  /// Rows of `x`; its count and that of the results are held against the shape.
  func tokens(_ x: Span<Float>, _ results: Int) -> Int {
    let (n, k) = (weight.rows, weight.columns)
    precondition(x.count.isMultiple(of: k), "\(x.count) values are not rows of \(k)")
    precondition(results == x.count / k * n, "\(results) results for [\(x.count / k), \(n)]")
    return n > 0 ? x.count / k : 0
  }

  func multiply(
    _ inputs: borrowing ProductInputs, into y: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    if inputs.rounded.tokens <= 4 {
      unsafe weight.multiplyFew(inputs.rounded, into: y, on: compute)
    } else {
      unsafe multiplyMany(inputs, into: y, on: compute)
    }
  }

  private func multiplyMany(
    _ inputs: borrowing ProductInputs, into y: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    let (n, k, t) = (weight.rows, weight.columns, inputs.rounded.tokens)
    let rowScales = weight.scaledRows
    let scales = unsafe inputs.rounded.scales
    func target(_ part: Range<Int>) -> ProductTarget {
      unsafe ProductTarget(
        y: y + part.lowerBound, stride: n, outputs: part.count,
        columnScales: rowScales.map { Array($0[part]) })
    }
    if let x = unsafe inputs.tiles, let layout = inputs.layout {
      if let tiles, tiles.layout == layout {
        unsafe TileProduct.run(
          x, tokens: t, scales: scales, tiles.memory, inputs: k, layout, target(0..<n), on: compute)
        return
      }
      for part in weight.chunks {
        let memory = unsafe compute.scratch.take(.weights, layout.bytes(part.count, k))
        unsafe TileProduct.pack(
          weight, part, as: layout, unscaled: rowScales != nil, into: memory, on: compute)
        unsafe TileProduct.run(
          x, tokens: t, scales: scales, memory, inputs: k, layout, target(part), on: compute)
      }
      return
    }
    let grouped = weight.grouped
    for part in weight.chunks {
      if let grouped {
        grouped.run(inputs.rounded, part, target(part), on: compute)
      } else if let matrix = weight.integers {
        PlainProduct.integers(inputs.rounded, matrix, part, target(part), on: compute)
      } else {
        PlainProduct.floats(
          inputs.rounded, weight, part, unscaled: rowScales != nil, target(part), on: compute)
      }
    }
  }
}

extension Weight {
  /// Rows that are widened or packed at a time, so that scratch stays near 16 MiB.
  var chunks: [Range<Int>] {
    let size = min((rows + 31) / 32 * 32, max(32, (4 << 20) / columns / 32 * 32))
    return stride(from: 0, to: rows, by: size).map { $0..<min(rows, $0 + size) }
  }

  fileprivate func multiplyFew(
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
}

/// Where a product goes: `outputs` columns of rows that are `stride` floats apart.
@safe struct ProductTarget {
  var y: UnsafeMutablePointer<Float>
  var stride: Int
  var outputs: Int
  /// `[outputs]`, or nil for 1.
  var columnScales: [Float]?
}

/// The inputs of products with weights that round them alike: after the activation scheme, and as
/// tiles when there are more than four tokens.
@safe struct ProductInputs: ~Copyable {
  let rounded: RoundedInputs
  let layout: TileLayout?
  let tiles: UnsafeRawPointer?

  init(
    _ x: UnsafePointer<Float>, tokens t: Int, for weight: Weight, on compute: Compute
  ) {
    rounded = unsafe RoundedInputs(
      x, tokens: t, columns: weight.columns, as: weight.inputRounding, on: compute)
    layout = t > 4 ? weight.tileLayout(on: compute) : nil
    if let layout {
      unsafe tiles = TileProduct.pack(rounded, as: layout, on: compute)
    } else {
      unsafe tiles = nil
    }
  }
}
