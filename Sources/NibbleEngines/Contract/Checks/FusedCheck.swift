import NibbleFormats

/// FUSE and FUSESCALE: the layers that an engine puts into one have one scheme, and share what the
/// engine keeps once.
enum FusedCheck {
  /// The layers of each fused layer, in order.
  private static func members(_ facts: CheckpointFacts) -> [(name: String, [LinearFact])] {
    var order: [String] = []
    var members: [String: [LinearFact]] = [:]
    for linear in facts.linears {
      guard let fused = linear.fused else { continue }
      if members[fused] == nil { order.append(fused) }
      members[fused, default: []].append(linear)
    }
    return order.compactMap { name in
      members[name].flatMap { $0.count > 1 ? (name, $0) : nil }
    }
  }

  static func schemes(_ facts: CheckpointFacts) -> [Fault] {
    members(facts).compactMap { name, linears in
      let stored = Set(linears.map(\.isStoredQuantized))
      if stored.count > 1 {
        let float = linears.filter { !$0.isStoredQuantized }.map(\.name)
        return Fault(name, "\(float.joined(separator: ", ")) is float, the other parts are not")
      }
      let schemes = Set(linears.map(\.scheme))
      guard schemes.count > 1 else { return nil }
      let text = linears.map { "\($0.name): \($0.scheme.map { "\($0)" } ?? "float")" }
      return Fault(name, "its parts have different schemes: \(text.joined(separator: "; "))")
    }
  }

  /// Parameters: `suffixes`, the tensors of one number that parts share; `ratio`, how far the largest
  /// may be from the smallest, 1 for equality.
  static func scales(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    let ratio = Float(rule.double("ratio") ?? 1)
    var faults: [Fault] = []
    for (name, linears) in members(facts).prefix(CheckpointFacts.tensorLimit) {
      for suffix in rule.strings("suffixes") {
        let tensors = linears.compactMap { $0.module?[suffix] }
        guard tensors.count > 1, tensors.allSatisfy(\.isScalar) else { continue }
        if tensors[0].dtype == .i8 {
          let bytes = tensors.compactMap { facts.rawBytes($0)?.first }
          if Set(bytes).count > 1 { faults.append(Fault(name, "its parts differ in \(suffix)")) }
          continue
        }
        let values = tensors.compactMap { facts.floats($0)?.first }
        guard let low = values.min(), let high = values.max(), low > 0, high > low * ratio else {
          continue
        }
        faults.append(
          Fault(
            name,
            "its parts differ in \(suffix)"
              + (ratio > 1 ? " by more than a factor of \(ratio)" : "")
          ))
      }
    }
    return faults
  }
}
