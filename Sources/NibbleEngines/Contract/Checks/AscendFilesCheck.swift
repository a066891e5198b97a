import NibbleFormats

/// CFG and KV of Ascend's engines: the description of the tensors.
enum AscendFilesCheck {
  /// The description that engines read; nil if there is none.
  static func description(of facts: CheckpointFacts) -> (name: String, JSON)? {
    let name = Ascend.descriptionStem + ".json"
    let names = facts.fileNames.filter {
      $0.hasPrefix(Ascend.descriptionStem) && $0.hasSuffix(".json")
    }
    guard let found = names.contains(name) ? name : names.min() else { return nil }
    return (found, facts.file(found) ?? .null)
  }

  /// Parameters: `methods` that need no description.
  static func description(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard let (name, json) = description(of: facts) else {
      guard !rule.strings("methods").contains(facts.method) else { return [] }
      return [
        Fault(
          facts.quantization.place,
          "there is no \(Ascend.descriptionStem).json, and quant_method is \(shown(facts.method))")
      ]
    }
    guard json.object != nil else { return [Fault(name, "it is no JSON object")] }
    var faults: [Fault] = []
    for linear in facts.linears where json[linear.path + ".weight"]?.string == nil {
      faults.append(Fault("\(name): \(linear.path).weight", "the description does not name it"))
    }
    for module in facts.modules.values.sorted(by: { $0.path < $1.path }) {
      for tensor in module.tensors.values
      where json[tensor.name] == nil
        && StoredModule.quantized.contains(
          StoredModule.lastComponent(of: tensor.name))
      {
        faults.append(Fault("\(name): \(tensor.name)", "the description does not name it"))
      }
    }
    // Parts of one fused layer have one type.
    var types: [String: Set<String>] = [:]
    for linear in facts.linears {
      guard let fused = linear.fused, let type = json[linear.path + ".weight"]?.string else {
        continue
      }
      types[fused, default: []].insert(type)
    }
    for (path, found) in types.sorted(by: { $0.key < $1.key }) where found.count > 1 {
      faults.append(
        Fault(path, "its parts have the types \(shown(found.sorted().joined(separator: ", ")))"))
    }
    return faults
  }

  /// What MindIE reads in config.json.
  static func quantize(_ facts: CheckpointFacts) -> [Fault] {
    guard let (name, json) = description(of: facts) else { return [] }
    var faults: [Fault] = []
    if facts.config["torch_dtype"]?.string == nil {
      faults.append(Fault("config.json: torch_dtype", "it is missing"))
    }
    let quantize = facts.config["quantize"]?.string
    if let type = json["model_quant_type"]?.string, quantize != type.lowercased() {
      faults.append(
        Fault(
          "config.json: quantize",
          "it is \(shown(quantize ?? "missing")), and \(name) says \(shown(type))"))
    }
    return faults
  }

  /// Scale and offset of keys and of values for every layer, if one has some.
  static func cache(_ facts: CheckpointFacts) -> [Fault] {
    guard let (name, json) = description(of: facts), let members = json.object else { return [] }
    let suffixes = ["kv_cache_scale", "kv_cache_offset"]
    let named = members.keys.filter { key in suffixes.contains { key.hasSuffix("." + $0) } }
    let stored = facts.modules.values.contains { $0["kv_cache_scale"] != nil }
    guard !named.isEmpty || stored || json["kv_quant_type"]?.string == "C8" else { return [] }
    let names = Set(named)
    var faults: [Fault] = []
    for linear in facts.linears where ["k_proj", "v_proj"].contains(linear.name) {
      for suffix in suffixes where !names.contains("\(linear.path).\(suffix)") {
        faults.append(
          Fault("\(name): \(linear.path).\(suffix)", "the description does not name it"))
      }
      for suffix in suffixes where linear.module?[suffix] == nil {
        faults.append(Fault("\(linear.path).\(suffix)", "there is no such tensor"))
      }
    }
    return faults
  }
}
