import NibbleModel

/// A linear module under its name in a checkpoint: one layer, or several that read the same inputs,
/// concatenated along the outputs.
struct AscendModule: Hashable, Sendable {
  /// Module path, without `.weight`.
  let path: String
  let block: Int
  /// The layers' roles, in the order of their outputs.
  let roles: [Role]

  var isFused: Bool { roles.count > 1 }

  init(path: String, block: Int, roles: [Role]) {
    self.path = path
    self.block = block
    self.roles = roles
  }

  /// The linears of a block, in the order of computation.
  static let allRoles: [Role] = [.query, .key, .value, .output, .gate, .up, .down]

  /// A module of one layer.
  init(_ role: Role, block: Int, of family: DecoderShape) {
    self.init(path: family.path(of: role, block: block), block: block, roles: [role])
  }

  /// One module for each of its layers.
  func layers(of family: DecoderShape) -> [AscendModule] {
    roles.map { AscendModule($0, block: block, of: family) }
  }

  /// The modules of a block.
  ///
  /// - Parameter fused: whether query, key and value form one module, and gate and up another, as
  ///   in MindIE's Llama classes with W8A8SC.
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
