import NibbleFormats
import NibbleModel

/// CFG: there is one config of the quantization, it is whole, and it describes the tensors.
enum ConfigCheck {
  static func readable(_ facts: CheckpointFacts) -> [Fault] {
    var faults = facts.quantization.faults
    if facts.config.object == nil {
      faults.append(
        Fault(
          "config.json",
          facts.fileNames.contains("config.json") ? "it is no JSON object" : "it is not there"))
    } else {
      if facts.config["model_type"]?.string == nil {
        faults.append(Fault("config.json: model_type", "it is missing or no name"))
      }
      if (facts.config["architectures"]?.array ?? []).compactMap(\.string).isEmpty {
        faults.append(Fault("config.json: architectures", "it is missing or empty"))
      }
    }
    return faults
  }

  /// Quantized tensors without a config.
  static func missing(_ facts: CheckpointFacts) -> [Fault] {
    guard facts.method == "float" else { return [] }
    return facts.modules.values.filter { module in
      module.isQuantized && module.name != "experts" && facts.shape?.isOfTower(module.path) != true
    }
    .sorted { $0.path < $1.path }.map {
      Fault($0.path, "its tensors are quantized, and there is no quantization config")
    }
  }

  /// Parameters: `all`, lists of names of which the config must have one each.
  static func keys(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    let config = facts.quantization
    let lists = rule.json["all"]?.array ?? []
    return lists.compactMap { list in
      let names = list.array?.compactMap(\.string) ?? []
      let isThere = names.contains { name in
        guard let value = config.json[name], !value.isNull else { return false }
        return value.object.map { $0.count > 0 } ?? true
      }
      return isThere
        ? nil
        : Fault(config.place, "\(names.joined(separator: " or ")) is missing or empty")
    }
  }

  /// Parameters: `keys` that must be absent, empty or null; `formats` that must not be named.
  static func absent(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    let config = facts.quantization
    var faults: [Fault] = []
    for key in rule.strings("keys") {
      guard let value = config.json[key], !value.isNull, value.object?.count != 0,
        value.array?.count != 0, value.bool != false
      else { continue }
      faults.append(Fault("\(config.place).\(key)", "\(key) is set"))
    }
    for format in rule.strings("formats") where config.json["format"]?.string == format {
      faults.append(Fault("\(config.place).format", "the format \(format) was removed"))
    }
    return faults
  }

  /// A second config that says something else.
  static func conflict(_ facts: CheckpointFacts) -> [Fault] {
    guard facts.config["quantization_config"]?.object != nil else { return [] }
    let keys = [
      "bits", "group_size", "sym", "desc_act", "zero_point", "quant_method", "quant_algo",
    ]
    var faults: [Fault] = []
    for name in QuantizationConfig.ownFiles where facts.quantization.place != name {
      guard let file = facts.file(name) else { continue }
      let other = file["quantization"] ?? file
      let differing = keys.filter { key in
        guard let theirs = other[key], let ours = facts.quantization.json[key], !theirs.isNull,
          !ours.isNull
        else { return false }
        return theirs != ours
      }
      if !differing.isEmpty {
        faults.append(
          Fault(name, "\(differing.joined(separator: ", ")) differs from that of config.json"))
      }
    }
    return faults
  }

  /// A config whose tensors are those of another format, or none.
  static func described(_ facts: CheckpointFacts) -> [Fault] {
    let marks: [String: String] = [
      "awq": "qweight", "gptq": "qweight", "mlx": "scales", "smooth_quant": "scale",
    ]
    guard !facts.modules.isEmpty, facts.method != "float" else { return [] }
    if let mark = marks[facts.method] {
      guard !facts.modules.values.contains(where: { $0[mark] != nil }) else { return [] }
      return [
        Fault(
          facts.quantization.place, "no module has \(mark), which \(facts.method) stores")
      ]
    }
    guard ["compressed-tensors", "fp8", "modelopt"].contains(facts.method),
      !facts.modules.values.contains(where: \.isQuantized)
    else { return [] }
    return [Fault(facts.quantization.place, "no module is quantized")]
  }

  /// Groups of integers with float activations that leave their format to the reader.
  static func format(_ facts: CheckpointFacts) -> [Fault] {
    let json = facts.quantization.json
    guard json["format"]?.string != "pack-quantized" else { return [] }
    return (json["config_groups"]?.object ?? JSONObject()).compactMap { name, group in
      guard group["weights"]?["type"]?.string ?? "int" == "int", group["format"]?.string == nil,
        group["input_activations"]?.object == nil, group["weights"]?.object != nil
      else { return nil }
      return Fault(
        "\(facts.quantization.place).config_groups.\(shown(name))", "the group has no format")
    }
  }

  /// Quantized layers outside experts beside a config that knows experts alone.
  static func besideExperts(_ facts: CheckpointFacts) -> [Fault] {
    var faults: [Fault] = []
    if facts.quantization.json["config_groups"]?.object != nil {
      faults.append(
        Fault("\(facts.quantization.place).config_groups", "its groups are not read"))
    }
    let others = facts.modules.values.filter {
      $0.isQuantized && !$0.path.contains("experts")
    }
    faults += others.map(\.path).sorted().map {
      Fault($0, "it is quantized, and no part of the experts")
    }
    return faults
  }

  static func noWeights(_ facts: CheckpointFacts) -> [Fault] {
    guard !facts.fileNames.contains(where: { $0.hasSuffix(".safetensors") }),
      !facts.fileNames.contains(where: { $0.hasPrefix("part") || $0.hasPrefix("rank") })
    else { return [] }
    return [Fault(facts.path, "there is no safetensors file")]
  }
}
