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

  /// How the inputs of more than four tokens lie in tiles; nil without tiles.
  func tileLayout(on compute: Compute) -> TileLayout? {
    guard hasTilesHere, grouped == nil else { return nil }
    return integers != nil ? .codes : .floats(parts: compute.parts)
  }

  /// How the weight lies in tiles beside such inputs: in no more parts than hold its values.
  func packedLayout(for inputs: TileLayout) -> TileLayout {
    guard case .floats(let parts) = inputs, case .float(let matrix) = self else { return inputs }
    switch matrix.format {
    case .bf16: return .floats(parts: 1)
    case .f16: return .floats(parts: min(parts, 2))
    case .f32: return inputs
    }
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

  /// Products of one `x` with three weights, whose inputs are rounded and packed once when they can
  /// be.
  public static func multiply(
    _ x: Span<Float>, by weights: (PreparedWeight, PreparedWeight, PreparedWeight),
    into first: inout MutableSpan<Float>, _ second: inout MutableSpan<Float>,
    _ third: inout MutableSpan<Float>, on compute: Compute
  ) {
    guard weights.0.readsAlike(weights.1, on: compute), weights.0.readsAlike(weights.2, on: compute)
    else {
      weights.0.multiply(x, into: &first, on: compute)
      weights.1.multiply(x, into: &second, on: compute)
      weights.2.multiply(x, into: &third, on: compute)
      return
    }
    let t = weights.0.tokens(x, first.count)
    guard t == weights.1.tokens(x, second.count), t == weights.2.tokens(x, third.count), t > 0
    else { return }
    unsafe x.withUnsafeBufferPointer { x in
      let inputs = unsafe ProductInputs(
        x.baseAddress!, tokens: t, for: weights.0.weight, on: compute)
      unsafe first.withUnsafeMutableBufferPointer {
        unsafe weights.0.multiply(inputs, into: $0.baseAddress!, on: compute)
      }
      unsafe second.withUnsafeMutableBufferPointer {
        unsafe weights.1.multiply(inputs, into: $0.baseAddress!, on: compute)
      }
      unsafe third.withUnsafeMutableBufferPointer {
        unsafe weights.2.multiply(inputs, into: $0.baseAddress!, on: compute)
      }
    }
  }

  private func readsAlike(_ other: PreparedWeight, on compute: Compute) -> Bool {
    weight.inputRounding == other.weight.inputRounding && weight.columns == other.weight.columns
      && weight.tileLayout(on: compute) == other.weight.tileLayout(on: compute)
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
    for part in tiles == nil ? weight.chunks : [0..<weight.rows] {
      let start = unsafe y + part.lowerBound
      unsafe multiply(inputs, part, into: start, stride: weight.rows, on: compute)
    }
  }

  /// The products of some rows, from a multiple of 16 on, of more than four tokens.
  func multiply(
    _ inputs: borrowing ProductInputs, _ part: Range<Int>, into y: UnsafeMutablePointer<Float>,
    stride: Int, on compute: Compute
  ) {
    let target = unsafe ProductTarget(
      y: y, stride: stride, outputs: part.count,
      columnScales: weight.scaledRows.map { Array($0[part]) })
    if let x = unsafe inputs.tiles, let layout = inputs.layout {
      let packed = weight.packedLayout(for: layout)
      unsafe TileProduct.run(
        x, layout, tokens: inputs.rounded.tokens, scales: inputs.rounded.scales,
        tiles(of: part, packed, in: .weights, on: compute), packed, inputs: weight.columns, target,
        on: compute)
    } else if let grouped = weight.grouped {
      grouped.run(inputs.rounded, part, target, on: compute)
    } else if let matrix = weight.integers {
      PlainProduct.integers(inputs.rounded, matrix, part, target, on: compute)
    } else {
      PlainProduct.floats(
        inputs.rounded, weight, part, unscaled: weight.scaledRows != nil, target, on: compute)
    }
  }

  /// The tiles of some rows, from a multiple of 16 on: packed into scratch when they are not there.
  func tiles(
    of part: Range<Int>, _ layout: TileLayout, in use: Scratch.Use, on compute: Compute
  ) -> UnsafeRawPointer {
    let k = weight.columns
    if let tiles, tiles.layout == layout {
      return unsafe UnsafeRawPointer(tiles.memory) + layout.bytes(part.lowerBound, k)
    }
    let memory = unsafe compute.scratch.take(use, layout.bytes(part.count, k))
    unsafe TileProduct.pack(
      weight, part, as: layout, unscaled: weight.scaledRows != nil, into: memory, on: compute)
    return UnsafeRawPointer(memory)
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
