import CNibble

/// A weight that can be packed into panels or tiles, for repeated products with it.
public struct PreparedWeight: Sendable {
  public let weight: Weight
  private(set) var tiles: WeightTiles?
  private(set) var panels: WeightPanels?

  public init(_ weight: Weight) { self.weight = weight }

  /// Packs the weight for products of many tokens. Weights that multiply in integers become panels,
  /// as large as their codes; floats become tiles, on processors that have them. The packed copy
  /// takes 1 to 6 bytes per value until this object is gone. Results do not change.
  public mutating func pack(on compute: Compute) {
    guard !weight.isCompressed else { return }
    if let groups = weight.integerGroups, case .quantized(let matrix, _) = weight,
      WeightPanels.hold(matrix, groups)
    {
      packPanels(groups, on: compute)
      return
    }
    guard let inputs = weight.tileLayout(on: compute),
      case .floats(let parts) = weight.packedLayout(for: inputs)
    else { return }
    let layout = TileLayout.floats(parts: parts)
    if tiles?.layout == layout { return }
    let packed = WeightTiles(layout, bytes: layout.bytes(weight.rows, weight.columns))
    unsafe TileProduct.pack(
      self, 0..<weight.rows, parts: parts, unscaled: weight.scaledRows != nil,
      into: packed.memory, on: compute)
    tiles = packed
  }

  /// Packs a quantized weight into panels for products of a few tokens as well, and gives its
  /// mapped pages back to the system. Float weights are read in place; compressed codes stay
  /// compressed.
  public mutating func packForSteps(on compute: Compute) {
    guard case .quantized(let matrix, let rounding) = weight, !weight.isCompressed else { return }
    let groups = matrix.groups(with: rounding)
    guard WeightPanels.hold(matrix, groups),
      weight.integerGroups != nil || weight.columns.isMultiple(of: 8)
    else { return }
    packPanels(groups, on: compute)
    weight.release()
  }

  private mutating func packPanels(_ groups: ProductGroups, on compute: Compute) {
    guard panels == nil else { return }
    panels = weight.panels(groups, on: compute)
  }

  /// Some rows as floats. With `unscaled`, per-row scales are left to the caller.
  func widen(_ part: Range<Int>, into values: UnsafeMutablePointer<Float>, unscaled: Bool) {
    if let panels {
      unsafe panels.decode(part, into: values, unscaled: unscaled)
    } else {
      unsafe weight.widen(part, into: values, unscaled: unscaled)
    }
  }
}

extension Weight {
  /// - Precondition: the weight is quantized, and `groups` are its own.
  func panels(_ groups: ProductGroups, on compute: Compute) -> WeightPanels {
    guard case .quantized(let matrix, let rounding) = self else {
      preconditionFailure("panels of a float weight")
    }
    return WeightPanels(matrix, groups, inputZero: rounding?.range?.zero ?? 0 != 0, on: compute)
  }
}

/// The tiles of one weight.
@safe final class WeightTiles: @unchecked Sendable {
  // Sendable by hand: written only before it is shared.
  let layout: TileLayout
  let memory: UnsafeMutableRawPointer

  init(_ layout: TileLayout, bytes: Int) {
    self.layout = layout
    unsafe memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
  }

  deinit { unsafe memory.deallocate() }
}
