import CNibble

/// A weight, and once it is packed its tiles: for many products with the same weight.
public struct PreparedWeight: Sendable {
  public let weight: Weight
  private(set) var tiles: WeightTiles?

  public init(_ weight: Weight) { self.weight = weight }

  /// Packs the weight for products of more than four tokens, where the processor has tiles: 1 to 6
  /// bytes a value until this goes. Results stay the same.
  public mutating func pack(on compute: Compute) {
    guard let inputs = weight.tileLayout(on: compute) else { return }
    let layout = weight.packedLayout(for: inputs)
    if tiles?.layout == layout { return }
    let packed = WeightTiles(layout, bytes: layout.bytes(weight.rows, weight.columns))
    unsafe TileProduct.pack(
      weight, 0..<weight.rows, as: layout, unscaled: weight.scaledRows != nil,
      into: packed.memory, on: compute)
    tiles = packed
  }
}

/// Memory with the tiles of a weight.
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
