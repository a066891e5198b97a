import NibbleFormats
import NibbleModel
import NibbleTensor

/// The share of each layer that a rank of a tensor-parallel model holds.
///
/// Query, key, value, gate and up are split by outputs; output and down are split by inputs, and
/// their results are summed, so only rank 0 has the integer bias.
struct AscendSplit: Hashable, Sendable {
  let ranks: Int
  let config: DecoderShape

  /// - Throws: `ModelError` when heads or feed-forward channels do not divide among the ranks.
  init(_ config: DecoderShape, ranks: Int) throws(ModelError) {
    self.config = config
    self.ranks = ranks
    let attention = config.heads
    guard Self.fits(config, ranks) else {
      let fitting = (1...attention.keyHeads).filter { Self.fits(config, $0) }
      throw .unsupported(
        "\(ranks) ranks do not divide \(attention.heads) heads, \(attention.keyHeads) key heads and "
          + "\(config.intermediate) feed-forward channels. Use --tp "
          + fitting.map(String.init).joined(separator: ", ") + ".")
    }
  }

  static func fits(_ config: DecoderShape, _ ranks: Int) -> Bool {
    [config.heads.heads, config.heads.keyHeads, config.intermediate]
      .allSatisfy { ranks > 0 && $0.isMultiple(of: ranks) }
  }

  /// Outputs and inputs of a layer on one rank.
  func shape(of role: Role) -> (outputs: Int, inputs: Int) {
    let whole = config.shape(of: role)
    return role.addsUp
      ? (whole.outputs, whole.inputs / ranks) : (whole.outputs / ranks, whole.inputs)
  }

  /// Outputs and inputs of a module on one rank.
  func shape(of module: AscendModule) -> (outputs: Int, inputs: Int) {
    (
      module.roles.reduce(0) { $0 + shape(of: $1).outputs },
      shape(of: module.roles[0]).inputs
    )
  }

  /// The outputs of a layer within its module on one rank.
  func rows(of role: Role, in module: AscendModule) -> Range<Int> {
    let start = module.roles.prefix { $0 != role }.reduce(0) { $0 + shape(of: $1).outputs }
    return start..<start + shape(of: role).outputs
  }

  /// Whether 128 divides the module's outputs on each rank, as the published layout requires.
  func dividesIntoBlocks(_ module: AscendModule) -> Bool {
    shape(of: module).outputs.isMultiple(of: 128)
  }

  /// Numbers of ranks for which 128 divides the module's outputs on each rank.
  func fittingRanks(_ module: AscendModule) -> [Int] {
    (1...config.heads.keyHeads).filter { count in
      guard Self.fits(config, count), let split = try? AscendSplit(config, ranks: count) else {
        return false
      }
      return split.dividesIntoBlocks(module)
    }
  }

  /// The codes `[n, k]` of one rank.
  func codes(_ whole: Bytes, of role: Role, rank: Int) -> Bytes {
    let shape = shape(of: role)
    guard role.addsUp else {
      let bytes = shape.outputs * shape.inputs
      return whole[rank * bytes..<(rank + 1) * bytes]
    }
    let stride = shape.inputs * ranks
    let content = whole.array
    var codes: [UInt8] = []
    codes.reserveCapacity(shape.outputs * shape.inputs)
    for row in 0..<shape.outputs {
      let start = row * stride + rank * shape.inputs
      codes += content[start..<start + shape.inputs]
    }
    return Bytes(codes)
  }

  /// One rank's share of a vector with one value per output, of `width` bytes each.
  func vector(_ whole: Bytes, width: Int, of role: Role, rank: Int, adds: Bool = false) -> Bytes {
    guard role.addsUp else {
      let bytes = shape(of: role).outputs * width
      return whole[rank * bytes..<(rank + 1) * bytes]
    }
    return adds && rank > 0 ? Bytes([UInt8](repeating: 0, count: whole.count)) : whole
  }
}
