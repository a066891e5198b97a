import CNibble
import COneDNN

extension Weight {
  /// `y = x · Wᵀ`: x `[t, k]`, y `[t, n]`, overwritten.
  ///
  /// A float weight, or one with float activations, multiplies in the precision of `compute`. int8
  /// and int4 codes with int8 activations multiply exactly in integers, group by group where scales
  /// change along the inputs. Other codes with quantized activations are exact but for the float
  /// sum, in either precision. The arithmetic of a row does not depend on the number of threads. In
  /// integers it does not depend on the number of tokens either; float products of up to eight
  /// tokens add in another order than larger ones.
  public func multiply(_ x: Span<Float>, into y: inout MutableSpan<Float>, on compute: Compute) {
    PreparedWeight(self).multiply(x, into: &y, on: compute)
  }

  var inputRounding: InputRounding? {
    if case .quantized(_, let rounding) = self { rounding } else { nil }
  }

  /// Groups of a product in integers; nil when the product is in float.
  var integerGroups: ProductGroups? {
    guard case .quantized(let matrix, let rounding?) = self,
      case .integer = matrix.scheme.format.numbers, rounding.scheme.format == .int8
    else { return nil }
    let isSymmetric = !matrix.scheme.hasZeroPoints
    let groups = matrix.groups(with: rounding)
    let hasZero = rounding.range?.zero ?? 0 != 0
    // The sums of a group stay within int32.
    let limit = isSymmetric ? (hasZero ? 65_536 : 131_072) : 32_768
    return groups.width < limit ? groups : nil
  }

  /// Whether the codes are multiplied with int8 activation codes.
  public var multipliesIntegers: Bool { integerGroups != nil }

  /// Whether offsets are added to products in integers, which panels do in one order.
  var addsOffsets: Bool {
    guard case .quantized(let matrix, _) = self else { return false }
    return !matrix.offsets.isEmpty && integerGroups != nil
  }

  /// The float product of many tokens, when scales change along the inputs.
  var grouped: GroupedProduct? {
    guard case .quantized(let matrix, let rounding?) = self, integerGroups == nil else {
      return nil
    }
    let groups = matrix.groups(with: rounding)
    precondition(matrix.offsets.isEmpty, "\(matrix.scheme) with inputs \(rounding.scheme)")
    return groups.count > 1 ? GroupedProduct(matrix: matrix, groups: groups) : nil
  }

  /// The scale of each row, when it is applied after the product of the codes; nil otherwise.
  var scaledRows: [Float]? {
    guard case .quantized(let matrix, _?) = self, grouped == nil,
      integerGroups?.count ?? 1 == 1, matrix.offsets.isEmpty
    else { return nil }
    let grid = matrix.grid
    return (0..<rows).map { matrix.scales[grid.index(row: $0)] }
  }

  /// Tile layout of the inputs for more than eight tokens; nil without tiles.
  func tileLayout(on compute: Compute) -> TileLayout? {
    if let groups = integerGroups {
      guard Compute.tiles == .amx, groups.count == 1, inputRounding?.range?.zero ?? 0 == 0,
        case .quantized(let matrix, _) = self, matrix.scheme.bits == 8,
        !matrix.scheme.hasZeroPoints, matrix.offsets.isEmpty
      else { return nil }
      return .codes
    }
    guard compute.usesTiles, grouped == nil else { return nil }
    return .floats(parts: compute.parts)
  }

  /// Tile layout of the weight for such inputs: as few parts as represent its values exactly.
  func packedLayout(for inputs: TileLayout) -> TileLayout {
    guard case .floats(let parts) = inputs, case .float(let matrix) = self else { return inputs }
    switch matrix.format {
    case .bf16: return .floats(parts: 1)
    case .f16: return .floats(parts: min(parts, 2))
    case .f32: return inputs
    }
  }

  /// Ranges of rows that are widened or packed at a time, which keep scratch memory near 16 MiB.
  var chunks: [Range<Int>] {
    let size = min((rows + 31) / 32 * 32, max(32, (4 << 20) / columns / 32 * 32))
    return stride(from: 0, to: rows, by: size).map { $0..<min(rows, $0 + size) }
  }
}

extension Weight {
  /// Some rows of a quantized weight.
  fileprivate func rows(_ part: Range<Int>) -> Weight {
    guard case .quantized(let matrix, let rounding) = self else {
      preconditionFailure("rows of a float weight")
    }
    return .quantized(matrix.rows(part), inputs: rounding)
  }
}

extension QuantizedMatrix {
  /// Groups of inputs in which all scales of a product are constant.
  func groups(with rounding: InputRounding?) -> ProductGroups {
    ProductGroups(
      columns: columns, inputSpan: rounding?.scheme.span(inputs: columns) ?? columns,
      weightSpan: grid.columns)
  }
}

extension PreparedWeight {
  /// `Weight.multiply`, with the packed panels or tiles if there are any.
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

  /// Products of one `x` with three weights. The inputs are rounded and packed once where the
  /// weights allow it.
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
      unsafe first.withUnsafeMutableBufferPointer { first in
        unsafe second.withUnsafeMutableBufferPointer { second in
          unsafe third.withUnsafeMutableBufferPointer { third in
            unsafe multiply(
              inputs,
              [
                (weights.0, first.baseAddress!), (weights.1, second.baseAddress!),
                (weights.2, third.baseAddress!),
              ], on: compute)
          }
        }
      }
    }
  }

  /// The same with two weights.
  public static func multiply(
    _ x: Span<Float>, by weights: (PreparedWeight, PreparedWeight),
    into first: inout MutableSpan<Float>, _ second: inout MutableSpan<Float>, on compute: Compute
  ) {
    let t = weights.0.tokens(x, first.count)
    guard t > 0, t == weights.1.tokens(x, second.count),
      weights.0.readsAlike(weights.1, on: compute)
    else {
      weights.0.multiply(x, into: &first, on: compute)
      weights.1.multiply(x, into: &second, on: compute)
      return
    }
    unsafe x.withUnsafeBufferPointer { x in
      let inputs = unsafe ProductInputs(
        x.baseAddress!, tokens: t, for: weights.0.weight, on: compute)
      unsafe first.withUnsafeMutableBufferPointer { first in
        unsafe second.withUnsafeMutableBufferPointer { second in
          unsafe multiply(
            inputs, [(weights.0, first.baseAddress!), (weights.1, second.baseAddress!)],
            on: compute)
        }
      }
    }
  }

  /// Products with weights of the same input rounding: one batch of tasks when all have panels.
  private static func multiply(
    _ inputs: borrowing ProductInputs,
    _ weights: [(weight: PreparedWeight, y: UnsafeMutablePointer<Float>)], on compute: Compute
  ) {
    let jobs = unsafe weights.compactMap { weight, y in
      unsafe weight.panelJob(for: inputs, 0..<weight.weight.rows, y, stride: weight.weight.rows)
    }
    if unsafe jobs.count == weights.count {
      PanelProduct.run(inputs.rounded, jobs, on: compute)
    } else {
      for unsafe(weight, y) in unsafe weights {
        unsafe weight.multiply(inputs, into: y, on: compute)
      }
    }
  }

  private func readsAlike(_ other: PreparedWeight, on compute: Compute) -> Bool {
    weight.inputRounding == other.weight.inputRounding && weight.columns == other.weight.columns
      && weight.tileLayout(on: compute) == other.weight.tileLayout(on: compute)
      && weight.inputOrder == other.weight.inputOrder
      && weight.integerGroups == other.weight.integerGroups
      && panels?.groups == other.panels?.groups
  }

  /// Number of rows of `x`; checks its count and that of the results against the shape.
  func tokens(_ x: Span<Float>, _ results: Int) -> Int {
    let (n, k) = (weight.rows, weight.columns)
    precondition(x.count.isMultiple(of: k), "\(x.count) values are not rows of \(k)")
    precondition(results == x.count / k * n, "\(results) results for [\(x.count / k), \(n)]")
    return n > 0 ? x.count / k : 0
  }

  /// The product over panels; nil when there are none or they do not suit the number of tokens.
  private func panelJob(
    for inputs: borrowing ProductInputs, _ part: Range<Int>, _ y: UnsafeMutablePointer<Float>,
    stride: Int
  ) -> PanelProduct.Job? {
    guard let panels, unsafe inputs.tiles == nil,
      unsafe inputs.rounded.codes != nil || inputs.rounded.tokens <= Compute.stepTokens
    else { return nil }
    return unsafe PanelProduct.Job(panels: panels, part: part, y: y, stride: stride)
  }

  func multiply(
    _ inputs: borrowing ProductInputs, into y: UnsafeMutablePointer<Float>, on compute: Compute
  ) {
    let (t, n) = (inputs.rounded.tokens, weight.rows)
    if let job = unsafe panelJob(for: inputs, 0..<n, y, stride: n) {
      PanelProduct.run(inputs.rounded, [job], on: compute)
    } else if t <= Compute.stepTokens, !weight.isCompressed, !weight.addsOffsets {
      unsafe weight.multiplyInPlace(inputs.rounded, into: y, on: compute)
    } else {
      for part in tiles == nil ? weight.chunks : [0..<n] {
        unsafe multiply(inputs, part, into: y + part.lowerBound, stride: n, on: compute)
      }
    }
  }

  /// The products of some rows, which start at a multiple of 16, for more than `Compute.stepTokens`
  /// tokens.
  func multiply(
    _ inputs: borrowing ProductInputs, _ part: Range<Int>, into y: UnsafeMutablePointer<Float>,
    stride: Int, on compute: Compute
  ) {
    if let job = unsafe panelJob(for: inputs, part, y, stride: stride) {
      PanelProduct.run(inputs.rounded, [job], on: compute)
      return
    }
    let target = unsafe ProductTarget(
      y: y, stride: stride, outputs: part.count,
      columnScales: weight.scaledRows.map { Array($0[part]) })
    if let x = unsafe inputs.tiles, let layout = inputs.layout {
      let packed = weight.packedLayout(for: layout)
      // For codes, tiles and panels have the same layout.
      let codes = layout == .codes ? panels ?? panels(of: part, on: compute) : nil
      let weights =
        unsafe codes.map {
          unsafe UnsafeRawPointer($0.codes)
            + (panels == nil ? 0 : layout.bytes(part.lowerBound, weight.columns))
        } ?? tiles(of: part, packed, in: .weights, on: compute)
      unsafe TileProduct.run(
        x, layout, tokens: inputs.rounded.tokens, scales: inputs.rounded.scales, weights, packed,
        inputs: weight.columns, target, on: compute)
      withExtendedLifetime(codes) {}
    } else if weight.integerGroups != nil {
      multiplyUnpacked(inputs.rounded, part, target, on: compute)
    } else if let grouped = weight.grouped {
      grouped.run(inputs.rounded, part, target, on: compute)
    } else {
      PlainProduct.floats(
        inputs.rounded, self, part, unscaled: weight.scaledRows != nil, target, on: compute)
    }
  }

  /// An integer product with some rows of a weight that is not packed.
  private func multiplyUnpacked(
    _ inputs: borrowing RoundedInputs, _ part: Range<Int>, _ target: ProductTarget,
    on compute: Compute
  ) {
    guard let panels = panels(of: part, on: compute) else {
      unsafe weight.rows(part).multiplyInPlace(
        inputs, into: target.y, stride: target.stride, on: compute)
      return
    }
    let job = unsafe PanelProduct.Job(
      panels: panels, part: 0..<part.count, y: target.y, stride: target.stride)
    PanelProduct.run(inputs, [job], on: compute)
  }

  /// Panels of some rows of an integer weight, for one product; nil when panels cannot hold its
  /// groups.
  private func panels(of part: Range<Int>, on compute: Compute) -> WeightPanels? {
    guard let groups = weight.integerGroups, case .quantized(let matrix, _) = weight,
      WeightPanels.hold(matrix, groups)
    else { return nil }
    return weight.rows(part).panels(groups, on: compute)
  }

  /// The tiles of some rows, which start at a multiple of 16: packed into scratch memory when
  /// needed.
  func tiles(
    of part: Range<Int>, _ layout: TileLayout, in use: Scratch.Use, on compute: Compute
  ) -> UnsafeRawPointer {
    guard case .floats(let parts) = layout else { preconditionFailure("tiles of floats only") }
    let k = weight.columns
    if let tiles, tiles.layout == layout {
      return unsafe UnsafeRawPointer(tiles.memory) + layout.bytes(part.lowerBound, k)
    }
    let memory = unsafe compute.scratch.take(use, layout.bytes(part.count, k))
    unsafe TileProduct.pack(
      self, part, parts: parts, unscaled: weight.scaledRows != nil, into: memory, on: compute)
    return UnsafeRawPointer(memory)
  }
}

extension Weight {
  /// The product with codes or floats read in place.
  fileprivate func multiplyInPlace(
    _ inputs: borrowing RoundedInputs, into y: UnsafeMutablePointer<Float>, stride: Int? = nil,
    on compute: Compute
  ) {
    let (n, k, t) = (rows, columns, inputs.tokens)
    let stride = stride ?? n
    compute.ranges(of: n, grain: 64) { part, _ in
      switch self {
      case .float(let matrix):
        // Few enough rows to stay in the first-level cache while all tokens read them.
        let rowsAtOnce = t == 1 ? part.count : max(1, 16384 / matrix.rowBytes)
        unsafe matrix.bytes.withUnsafeBytes { bytes in
          for row in Swift.stride(from: part.lowerBound, to: part.upperBound, by: rowsAtOnce) {
            let w = unsafe bytes.baseAddress! + row * matrix.rowBytes
            let count = min(rowsAtOnce, part.upperBound - row)
            for token in 0..<t {
              let (x, out) = unsafe (inputs.floats + token * k, y + token * stride + row)
              switch matrix.format {
              case .f32: unsafe nibble_matvec_f32(x, w, out, k, count)
              case .f16: unsafe nibble_matvec_f16(x, w, out, k, count)
              case .bf16: unsafe nibble_matvec_bf16(x, w, out, k, count)
              }
            }
          }
        }
      case .quantized(let matrix, _):
        unsafe matrix.multiplyInPlace(inputs, part, into: y, stride: stride)
      }
    }
  }
}

/// Destination of a product: `outputs` columns of rows that are `stride` floats apart.
@safe struct ProductTarget {
  var y: UnsafeMutablePointer<Float>
  var stride: Int
  var outputs: Int
  /// `[outputs]`; nil stands for 1.
  var columnScales: [Float]?
}

/// The inputs of products with weights of the same input rounding: quantized as their scheme says,
/// and packed as tiles for more than eight tokens.
@safe struct ProductInputs: ~Copyable {
  let rounded: RoundedInputs
  let layout: TileLayout?
  let tiles: UnsafeRawPointer?

  init(
    _ x: UnsafePointer<Float>, tokens t: Int, for weight: Weight, on compute: Compute
  ) {
    let x = unsafe Self.gather(x, tokens: t, in: weight.inputOrder, on: compute)
    rounded = unsafe RoundedInputs(
      x, tokens: t, columns: weight.columns, as: weight.inputRounding,
      factors: weight.integerGroups.map { .codes(group: $0.width) } ?? .floats, on: compute)
    layout = t > Compute.stepTokens ? weight.tileLayout(on: compute) : nil
    if let layout {
      unsafe tiles = TileProduct.pack(rounded, as: layout, on: compute)
    } else {
      unsafe tiles = nil
    }
  }

  /// The inputs in the order of the weight's columns, in scratch memory; `x` itself without an order.
  private static func gather(
    _ x: UnsafePointer<Float>, tokens t: Int, in order: [Int32], on compute: Compute
  ) -> UnsafePointer<Float> {
    guard !order.isEmpty else { return unsafe x }
    let k = order.count
    let out = unsafe compute.scratch.take(.gathered, t * k * 4).assumingMemoryBound(to: Float.self)
    compute.ranges(of: t, grain: 16) { part, _ in
      for token in part {
        let (from, to) = unsafe (x + token * k, out + token * k)
        for (column, input) in order.enumerated() { unsafe to[column] = from[Int(input)] }
      }
    }
    return unsafe UnsafePointer(out)
  }
}
