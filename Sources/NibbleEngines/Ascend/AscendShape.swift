import NibbleModel
import NibbleTensor

/// Requirements of the vendor's formats on a decoder: equal blocks with separate linears for query,
/// key, value, output, gate, up and down.
extension DecoderShape {
  /// Whether the formats can hold every part of the decoder.
  var fitsAscend: Bool {
    guard let first = blocks.first else { return false }
    return blocks.allSatisfy { block in
      block.residual == .sequential && block.branches.allSatisfy { $0.before != nil }
        && block.norms.count == block.branches.count
        && block.norms.allSatisfy { $0.kind == .rms && $0.offset == 0 }
        && block.linears.map(\.role) == AscendModule.allRoles
        && block.linears.map(\.outputs) == first.linears.map(\.outputs)
        && block.linears.map(\.inputs) == first.linears.map(\.inputs)
        && block.attention?.core.keyHeads == first.attention?.core.keyHeads
    }
  }

  func requireAscend(_ path: String) throws(ModelError) {
    guard fitsAscend else {
      throw .unsupported(
        "\(path): blocks of \(family) have no place in Ascend's formats as Nibble knows them: those hold "
          + "query, key, value, output, gate, up and down. Use --format compressed-tensors.")
    }
  }

  /// `model.layers.3.self_attn.q_proj` and the like.
  func path(of role: Role, block: Int) -> String {
    guard let (linear, _) = blocks[block].linear(holding: role) else {
      preconditionFailure("block \(block) has no \(role)")
    }
    return blocks[block].path(of: linear.id)
  }

  /// Outputs and inputs of a linear of every block.
  func shape(of role: Role) -> (outputs: Int, inputs: Int) {
    guard let (linear, _) = blocks[0].linear(holding: role) else {
      preconditionFailure("blocks have no \(role)")
    }
    return (linear.outputs, linear.inputs)
  }

  /// The attention of every block.
  var heads: Attention {
    guard let attention = blocks.first?.attention?.core else {
      preconditionFailure("blocks have no attention")
    }
    return attention
  }
}

extension BlockShape {
  /// `model.layers.3.self_attn` and the like.
  var attentionPath: String { "\(path).\(attention?.path ?? "")" }
}
