import NibbleFormats
import NibbleModel

/// NAME: each tensor is one of the architecture.
enum NameCheck {
  /// Tensors that quantized layers, attentions and stacked experts may have in any format.
  private static let stored = StoredNames(
    linear: StoredModule.quantized.union(["k_scale", "v_scale", "output_scale", "q_scale"]),
    attention: [
      "k_scale", "v_scale", "q_scale", "kv_scale", "attn.k_scale", "attn.v_scale", "k_zero_point",
      "v_zero_point", "q_zero_point", "prob_scale", "attn.q_scale", "attn.prob_scale",
    ],
    stacked: ["", "_blocks", "_scales", "_bias", "_scale"])

  static func names(_ facts: CheckpointFacts) -> [Fault] {
    var faults = doubled(facts)
    guard let shape = facts.shape, facts.method != "ascend" else { return faults }
    let doubledNames = Set(faults.map(\.place))
    let outside = stored.names(outside: shape)
    let harmless = Family.harmlessTensors(facts.config)
    // Blocks of one kind have the same names.
    var known: [BlockShape: Set<String>] = [:]
    var blocks: [Set<String>] = []
    for block in shape.blocks {
      var plain = block
      plain.path = ""
      let names = known[plain] ?? stored.names(in: block)
      known[plain] = names
      blocks.append(names)
    }
    for tensor in facts.weights.tensors where !doubledNames.contains(shown(tensor.name)) {
      let place = shape.place(of: tensor.name)
      if let block = place.block {
        guard block < blocks.count else {
          faults.append(
            Fault(
              shown(tensor.name), "the config has \(blocks.count) blocks, and this is of another"))
          continue
        }
        if blocks[block].contains(place.name) { continue }
      } else if outside.contains(place.name) {
        continue
      }
      let isHarmless = harmless.contains {
        tensor.name == $0 || tensor.name.hasSuffix("." + $0)
      }
      if isHarmless || shape.isOfTower(tensor.name) || isCopyOfHead(tensor.name, shape) { continue }
      faults.append(
        Fault(
          shown(tensor.name),
          "\(shown(StoredModule.lastComponent(of: tensor.name))) is no tensor of \(shape.family) there"
        ))
    }
    return faults
  }

  /// A head beside a tied embedding is the matter of TIE.
  private static func isCopyOfHead(_ name: String, _ shape: DecoderShape) -> Bool {
    name.hasPrefix(shape.head.path + ".") || name.hasPrefix("lm_head.")
      || name.hasPrefix(shape.embedding.path + ".")
  }

  /// Names in which a component stands twice in a row.
  private static func doubled(_ facts: CheckpointFacts) -> [Fault] {
    facts.weights.tensors.compactMap { tensor in
      let parts = tensor.name.split(separator: ".")
      guard parts.count < 64 else { return Fault(shown(tensor.name), "its name has no end") }
      let pairs = zip(parts, parts.dropFirst())
      guard let twice = pairs.first(where: { $0 == $1 && $0.contains { $0.isLetter } }) else {
        return nil
      }
      return Fault(shown(tensor.name), "\(shown(String(twice.0))) stands twice in its name")
    }
  }
}
