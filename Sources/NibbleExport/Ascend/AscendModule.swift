import NibbleModel

/// A linear module as a checkpoint names it: one layer, or several that read the same inputs, put one
/// below the other.
struct AscendModule: Hashable, Sendable {
  /// Without `.weight`.
  let path: String
  let block: Int
  /// In the order of their outputs.
  let roles: [Role]

  var isFused: Bool { roles.count > 1 }

  init(path: String, block: Int, roles: [Role]) {
    self.path = path
    self.block = block
    self.roles = roles
  }

  /// What the linears of a block are for, in the order in which it computes them.
  static let allRoles: [Role] = [.query, .key, .value, .output, .gate, .up, .down]

  /// One layer by itself.
  init(_ role: Role, block: Int, of family: DecoderShape) {
    self.init(path: family.path(of: role, block: block), block: block, roles: [role])
  }

  /// The layers that it is made of, by themselves.
  func layers(of family: DecoderShape) -> [AscendModule] {
    roles.map { AscendModule($0, block: block, of: family) }
  }

  /// The modules of a block.
  ///
  /// - Parameter fused: whether query, key and value are one, and gate and up, as MindIE's Llama
  ///   classes hold them in W8A8SC.
  static func all(block: Int, of family: DecoderShape, fused: Bool) -> [AscendModule] {
    let plain = allRoles.map { AscendModule($0, block: block, of: family) }
    guard fused else { return plain }
    return [attention(block, family)] + plain.filter { $0.roles == [.output] }
      + [feedForward(block, family)] + plain.filter { $0.roles == [.down] }
  }

  private static func attention(_ block: Int, _ family: DecoderShape) -> AscendModule {
    sibling(of: .query, "query_key_value", block, family, [.query, .key, .value])
  }

  private static func feedForward(_ block: Int, _ family: DecoderShape) -> AscendModule {
    sibling(of: .gate, "gate_up_proj", block, family, [.gate, .up])
  }

  private static func sibling(
    of role: Role, _ name: String, _ block: Int, _ family: DecoderShape, _ roles: [Role]
  ) -> AscendModule {
    let parts = family.path(of: role, block: block).split(separator: ".").dropLast()
    return AscendModule(
      path: (parts + [name[...]]).joined(separator: "."), block: block, roles: roles)
  }
}
