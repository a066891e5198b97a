import NibbleFormats

/// ENG: the engine has a reader and kernels for the scheme.
enum SchemeCheck {
  /// Parameters: `methods`, those that the engine reads.
  static func method(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard !rule.strings("methods").contains(facts.method) else { return [] }
    return [Fault(facts.quantization.place, "quant_method is \(shown(facts.method))")]
  }

  /// Parameters: `accepts`, descriptions of schemes of which each layer must match one; or `rejects`,
  /// of which none may; `experts` and `fused`, to look at those layers alone.
  static func schemes(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    let accepts = rule.json["accepts"]?.array
    let rejects = rule.json["rejects"]?.array ?? []
    var verdicts: [ModuleScheme: Bool] = [:]
    var faults: [Fault] = []
    for linear in facts.linears {
      guard let scheme = linear.scheme, linear.isStoredQuantized,
        linear.kind == .plain || linear.kind == .head
      else { continue }
      if rule.bool("experts"), linear.expert == nil { continue }
      if rule.bool("fused"), linear.fused == nil { continue }
      let isTaken: Bool
      if let known = verdicts[scheme] {
        isTaken = known
      } else {
        let isAccepted = accepts.map { $0.contains { matches(scheme, $0) } } ?? true
        isTaken = isAccepted && !rejects.contains { matches(scheme, $0) }
        verdicts[scheme] = isTaken
      }
      if !isTaken { faults.append(Fault(linear.path, "\(scheme)")) }
    }
    return faults
  }

  /// Whether a scheme is one of those that a description allows. A missing member allows all.
  private static func matches(_ scheme: ModuleScheme, _ json: JSON) -> Bool {
    let pattern = RuleParameters(json: json)
    func allows(_ key: String, _ value: Int) -> Bool {
      json[key] == nil || pattern.ints(key).contains(value)
    }
    func allows(_ key: String, _ value: String) -> Bool {
      json[key] == nil || pattern.strings(key).contains(value)
    }
    func allows(_ key: String, _ value: Bool) -> Bool {
      json[key] == nil || pattern.bool(key) == value
    }
    if let multiple = pattern.int("group_multiple"), multiple > 0 {
      guard scheme.group > 0, scheme.group.isMultiple(of: multiple) else { return false }
    }
    return allows("layouts", scheme.layout.rawValue) && allows("bits", scheme.bits)
      && allows("groups", scheme.group) && allows("inputs", scheme.inputs.rawValue)
      && allows("input_bits", scheme.inputs == .float ? 0 : scheme.inputBits)
      && allows("symmetric", scheme.isSymmetric)
      && allows("inputs_symmetric", scheme.inputs == .float || scheme.inputsAreSymmetric)
      && allows("orders_inputs", scheme.ordersInputs) && allows("float", scheme.isFloat)
  }

  /// Parameters: `values`, an object of keys of the quantization config and the values allowed. A
  /// missing key is allowed.
  static func values(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    var faults: [Fault] = []
    for (key, allowed) in rule.json["values"]?.object ?? JSONObject() {
      guard let value = facts.quantization.json[key], !value.isNull,
        let list = allowed.array, !list.contains(value)
      else { continue }
      faults.append(
        Fault("\(facts.quantization.place).\(key)", "\(key) is \(shown(value.text()))"))
    }
    return faults
  }

  /// Parameters: `count`, the number of groups; `names` and `targets`, those allowed.
  static func groups(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard let groups = facts.quantization.json["config_groups"]?.object else { return [] }
    let place = "\(facts.quantization.place).config_groups"
    var faults: [Fault] = []
    if let count = rule.int("count"), groups.count != count {
      faults.append(Fault(place, "there are \(groups.count) groups"))
    }
    let (names, targets) = (rule.strings("names"), rule.strings("targets"))
    for (name, group) in groups {
      if !names.isEmpty, !names.contains(name) {
        faults.append(Fault(place, "a group is called \(shown(name))"))
      }
      let found = group["targets"]?.array?.compactMap(\.string) ?? []
      if !targets.isEmpty, !found.allSatisfy({ targets.contains($0) }) {
        faults.append(Fault("\(place).\(shown(name))", "it targets single modules"))
      }
    }
    return faults
  }

  /// Parameters: `suffixes` of tensors that the engine does not read.
  static func suffixes(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    let suffixes = rule.strings("suffixes")
    return facts.modules.values.sorted { $0.path < $1.path }.flatMap { module in
      suffixes.filter { module[$0] != nil }.map {
        Fault("\(module.path).\($0)", "\($0) is stored")
      }
    }
  }

  /// Parameters: `suffixes` of tensors that every quantized layer must have.
  static func needs(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    let suffixes = rule.strings("suffixes")
    return facts.linears.filter(\.isStoredQuantized).flatMap { linear in
      suffixes.filter { linear.module?[$0] == nil }.map {
        Fault("\(linear.path).\($0)", "\($0) is missing")
      }
    }
  }
}
