import NibbleFormats
import NibbleModel

/// KV: the scales of an 8-bit cache.
enum CacheCheck {
  private static let suffixes: Set<String> = ["k_scale", "v_scale", "kv_scale", "output_scale"]

  /// Whether the config declares a calibrated cache.
  private static func isDeclared(_ facts: CheckpointFacts) -> Bool {
    let json = facts.quantization.json
    if let scheme = json["kv_cache_scheme"], !scheme.isNull {
      return scheme["dynamic"]?.bool != true
    }
    return json["kv_cache_quant_algo"]?.string != nil
  }

  /// Names of the modules with scales, by their attention.
  private static func scales(
    of attention: String, _ facts: CheckpointFacts
  ) -> (key: StoredTensor?, value: StoredTensor?) {
    func tensor(_ path: String, _ suffix: String) -> StoredTensor? {
      facts.modules[path].flatMap { $0[suffix] }
    }
    let both = tensor(attention, "kv_scale")
    let key =
      tensor(attention, "k_scale") ?? tensor(attention + ".attn", "k_scale")
      ?? tensor(attention + ".k_proj", "k_scale") ?? tensor(attention + ".k_proj", "output_scale")
    let value =
      tensor(attention, "v_scale") ?? tensor(attention + ".attn", "v_scale")
      ?? tensor(attention + ".v_proj", "v_scale") ?? tensor(attention + ".v_proj", "output_scale")
    return (key ?? both, value ?? both)
  }

  /// Paths of the attention of each block.
  private static func attentions(_ facts: CheckpointFacts) -> [String] {
    if let shape = facts.shape {
      return shape.blocks.compactMap { block in
        block.attention.flatMap { $0.sharesCacheOf == nil ? "\(block.path).\($0.path)" : nil }
      }
    }
    let paths = facts.linears.filter { $0.name == "k_proj" }.map {
      StoredModule.parent(of: $0.path)
    }
    return Array(Set(paths)).sorted()
  }

  /// Parameters: `types`, `bits`, `strategies`: those that the engine reads.
  static func scheme(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard let scheme = facts.quantization.json["kv_cache_scheme"], scheme.object != nil else {
      return []
    }
    let type = scheme["type"]?.string ?? "int"
    let bits = scheme["num_bits"]?.int ?? 8
    let strategy = scheme["strategy"]?.string ?? "tensor"
    guard
      !rule.strings("types").contains(type) || !rule.ints("bits").contains(bits)
        || !rule.strings("strategies").contains(strategy) || scheme["symmetric"]?.bool == false
    else { return [] }
    return [
      Fault(
        "\(facts.quantization.place).kv_cache_scheme",
        "it is \(shown(type)) of \(bits) bits, \(shown(strategy))"
          + (scheme["symmetric"]?.bool == false ? ", asymmetric" : ""))
    ]
  }

  static func scales(_ facts: CheckpointFacts) -> [Fault] {
    guard isDeclared(facts) else { return [] }
    var faults: [Fault] = []
    for path in attentions(facts) {
      let (key, value) = scales(of: path, facts)
      for (name, tensor) in [("k_scale", key), ("v_scale", value)] {
        guard let tensor else {
          faults.append(Fault("\(path).\(name)", "\(name) is missing, and the config declares it"))
          continue
        }
        guard let values = facts.floats(tensor) else {
          faults.append(Fault(tensor.name, "\(name) is \(tensor.dtype.rawValue), not a float"))
          continue
        }
        if !values.allSatisfy({ $0.isFinite && $0 > 0 }) {
          faults.append(Fault(tensor.name, "\(name) is not above zero and finite"))
        }
      }
    }
    return faults
  }

  static func undeclared(_ facts: CheckpointFacts) -> [Fault] {
    guard !isDeclared(facts), facts.method != "fp8", facts.method != "ascend" else { return [] }
    return facts.modules.values.filter { module in
      module["k_scale"] != nil || module["v_scale"] != nil || module["kv_scale"] != nil
    }
    .map(\.path).sorted().map { Fault($0, "it has cache scales, and the config declares none") }
  }

  static func ones(_ facts: CheckpointFacts) -> [Fault] {
    let stored = attentions(facts).compactMap { path -> (StoredTensor, [Float])? in
      guard let key = scales(of: path, facts).key, let values = facts.floats(key) else {
        return nil
      }
      return (key, values)
    }
    guard stored.count > 0, stored.allSatisfy({ $0.1.allSatisfy { $0 == 1 } }) else { return [] }
    return stored.map { Fault($0.0.name, "all cache scales are exactly 1") }
  }
}
