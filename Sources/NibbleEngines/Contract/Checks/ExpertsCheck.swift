import NibbleFormats

/// EXP and ROUTER: experts are whole and alike, and what chooses them stays float.
enum ExpertsCheck {
  /// Parameters: none.
  static func experts(_ facts: CheckpointFacts) -> [Fault] {
    var layers: [String: [Int: [LinearFact]]] = [:]
    for linear in facts.linears {
      guard let path = linear.expertsPath, let expert = linear.expert else { continue }
      layers[path, default: [:]][expert, default: []].append(linear)
    }
    let declared = ["num_experts", "num_local_experts", "n_routed_experts"]
      .compactMap { facts.field($0)?.int }.first
    var faults: [Fault] = []
    for (path, experts) in layers.sorted(by: { $0.key < $1.key }) {
      let count = declared ?? experts.keys.max().map { $0 < 1 << 20 ? $0 + 1 : 0 } ?? 0
      let isSensible = (0...1 << 20).contains(count)
      let missing = isSensible ? (0..<count).filter { experts[$0] == nil } : []
      if let first = missing.first {
        faults.append(
          Fault(path, "\(missing.count) of \(count) experts are not there, the first is \(first)"))
      }
      let names = Set(experts.values.flatMap { $0.map(\.name) })
      for (expert, linears) in experts.sorted(by: { $0.key < $1.key }) {
        let there = Set(linears.filter { $0.module != nil }.map(\.name))
        if there != names {
          let lacks = names.subtracting(there).sorted().joined(separator: ", ")
          faults.append(Fault("\(path).\(expert)", "\(lacks) is not there, other experts have it"))
        }
      }
      let all = experts.values.flatMap(\.self)
      let quantized = all.filter(\.isStoredQuantized).count
      if quantized > 0, quantized < all.count {
        let float = all.filter { !$0.isStoredQuantized }.map(\.path).sorted()
        faults.append(
          Fault(float[0], "it is float, and other linear layers of these experts are quantized"))
      } else if Set(all.map(\.scheme)).count > 1 {
        faults.append(Fault(path, "its experts have different schemes"))
      }
    }
    return faults
  }

  private static func routers(_ facts: CheckpointFacts) -> [LinearFact] {
    facts.linears.filter { $0.kind == .router && LinearFact.isRouter($0.path) }
  }

  static func quantizedRouters(_ facts: CheckpointFacts) -> [Fault] {
    routers(facts).filter(\.isStoredQuantized).map {
      Fault($0.path, "the router is quantized")
    }
  }

  static func unlistedRouters(_ facts: CheckpointFacts) -> [Fault] {
    guard facts.method == "compressed-tensors" else { return [] }
    return routers(facts).filter { $0.module != nil && !facts.quantization.ignores($0.path) }.map {
      Fault($0.path, "the router is not in ignore")
    }
  }

  static func zeroRouters(_ facts: CheckpointFacts) -> [Fault] {
    routers(facts).prefix(CheckpointFacts.tensorLimit).compactMap { router in
      guard let values = facts.floats(router.module?["weight"]), !values.isEmpty,
        values.allSatisfy({ $0 == 0 })
      else { return nil }
      return Fault(router.path, "its first \(values.count) weights are zero")
    }
  }
}
