import NibbleFormats
import NibbleModel

/// How a checkpoint says that it is quantized, found where engines look.
///
/// Source: vLLM 0.32 `config/model.py` for the places and their order.
struct QuantizationConfig {
  /// One scheme of a compressed-tensors config, and the modules that it is for.
  struct Group {
    var name: String
    var targets: ModuleTargets
    var scheme: ModuleScheme

    /// Whether it is for all linear layers, by their class.
    let isForClass: Bool

    init(name: String, targets: ModuleTargets, scheme: ModuleScheme) {
      (self.name, self.targets, self.scheme) = (name, targets, scheme)
      isForClass = targets.names.contains { $0.lowercased() == "linear" }
    }
  }

  /// A setting of GPTQModel for the layers that an expression matches.
  struct Override {
    var targets: ModuleTargets
    /// Null for layers that stay float.
    var change: JSON
  }

  /// Number of groups, and of names to search for in paths, that are read.
  static let listLimit = 4096

  /// `float` if there is no config.
  var method: String
  /// The config itself; null if there is none.
  private(set) var json: JSON = .null
  /// File and key of the config.
  private(set) var place = "config.json"
  /// Faults met while reading it.
  private(set) var faults: [Fault] = []
  /// Schemes of compressed-tensors.
  private(set) var groups: [Group] = []
  /// Modules that stay float: names, and patterns of compressed-tensors.
  private(set) var ignored = ModuleTargets()
  /// The same, as written.
  private(set) var ignoredNames: [String] = []
  /// Whether the class of all linear layers stays float.
  private(set) var ignoresClass = false
  /// Settings of single layers of GPTQModel, of which the first that matches counts.
  private(set) var overrides: [Override] = []
  /// The one scheme of all layers, for methods that have one.
  private(set) var uniform: ModuleScheme?

  init(method: String) { self.method = method }

  /// Files that hold a config of their own, in the order in which engines look.
  static let ownFiles = ["quantize_config.json", "quant_config.json", "hf_quant_config.json"]

  init(folder: String, names: Set<String>, config: JSON) {
    method = "float"
    func set(_ value: JSON?, _ place: String) -> Bool {
      guard let value, value.object.map({ $0.count > 0 }) ?? false else { return false }
      (json, self.place) = (value, place)
      return true
    }
    let found =
      set(config["quantization_config"], "config.json: quantization_config")
      || set(config["text_config"]?["quantization_config"], "config.json: text_config")
      || set(config["compression_config"], "config.json: compression_config")
      || set(config["quantization"], "config.json: quantization")
    if !found {
      for name in Self.ownFiles where names.contains(name) {
        let file = CheckpointFacts.json(folder + "/" + name)
        if set(file?["quantization"], name) || set(file, name) { break }
      }
    }
    let describes = names.contains { $0.hasPrefix(Ascend.descriptionStem) }
    if json.isNull, describes || config["quantize"]?.string != nil {
      (method, place) = ("ascend", "config.json: quantize")
      return
    }
    guard !json.isNull else { return }
    method = Self.method(json, place, hasTwin: config["quantization"]?.object != nil)
    readSchemes()
  }

  private static func method(_ json: JSON, _ place: String, hasTwin: Bool) -> String {
    if let name = json["quant_method"]?.string {
      return name == "gptq_v2" || name == "gptq_marlin" || name == "auto_gptq"
        ? "gptq" : name == "awq_marlin" || name == "auto_awq" ? "awq" : name
    }
    if json["quant_algo"]?.string != nil { return "modelopt" }
    // mlx-lm writes its config under both names.
    if hasTwin, json["group_size"] != nil { return "mlx" }
    if json["config_groups"] != nil { return "compressed-tensors" }
    if place == "quantize_config.json" || json["desc_act"] != nil { return "gptq" }
    if json["zero_point"] != nil { return "awq" }
    return "unknown"
  }

  private mutating func readSchemes() {
    switch method {
    case "compressed-tensors": readGroups()
    case "awq":
      ignoredNames = strings("modules_to_not_convert")
      let size = json["group_size"]?.int ?? json["q_group_size"]?.int ?? -1
      uniform = ModuleScheme(
        layout: .awq, bits: json["bits"]?.int ?? json["w_bit"]?.int ?? 4,
        group: size > 0 ? size : -1, isSymmetric: json["zero_point"]?.bool == false)
    case "gptq":
      let size = json["group_size"]?.int ?? -1
      let orders = json["desc_act"]?.bool == true
      uniform = ModuleScheme(
        layout: .gptq, bits: json["bits"]?.int ?? 4, group: size > 0 ? size : -1,
        isSymmetric: json["sym"]?.bool ?? true, ordersInputs: orders)
      readOverrides()
    case "fp8":
      ignoredNames = strings("ignored_layers")
      if ignoredNames.isEmpty { ignoredNames = strings("modules_to_not_convert") }
      let block = json["weight_block_size"]?.array?.compactMap(\.int) ?? []
      let isStatic = json["activation_scheme"]?.string == "static"
      uniform = ModuleScheme(
        layout: .fp8, bits: 8, isFloat: true, group: block.isEmpty ? 0 : -2, block: block,
        inputs: !block.isEmpty ? .dynamicGroup : isStatic ? .staticTensor : .dynamicToken)
    case "modelopt", "modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8": readModelOpt()
    case "mlx":
      let size = json["group_size"]?.int ?? 64
      uniform = ModuleScheme(
        layout: .mlx, bits: json["bits"]?.int ?? 4, group: size,
        isSymmetric: (json["mode"]?.string ?? "affine") != "affine")
    case "smooth_quant":
      ignoredNames = strings("modules_to_not_convert")
      let isInt = (json["quant_dtype"]?.string ?? "int8") == "int8"
      uniform = ModuleScheme(
        layout: .smoothQuant, bits: 8, isFloat: !isInt, group: -1, inputs: .dynamicToken)
    default: break
    }
    for name in ignoredNames { ignored.insert(name) }
    ignoresClass = ignored.names.contains { $0.lowercased() == "linear" }
    if ignoredNames.count > Self.listLimit, method != "compressed-tensors" {
      faults.append(Fault(place, "it lists more than \(Self.listLimit) names to keep float"))
      ignoredNames = Array(ignoredNames.prefix(Self.listLimit))
    }
  }

  private mutating func readOverrides() {
    var budget = ModuleTargets.costLimit
    for (pattern, change) in json["dynamic"]?.object ?? JSONObject() {
      let isNegative = pattern.hasPrefix("-:")
      let text = isNegative || pattern.hasPrefix("+:") ? String(pattern.dropFirst(2)) : pattern
      do {
        let targets = try ModuleTargets(
          [.string("re:" + text)], path: place, field: "dynamic", budget: &budget)
        overrides.append(Override(targets: targets, change: isNegative ? .null : change))
      } catch { faults.append(Fault("\(place).dynamic", "\(shown("\(error)"))")) }
    }
  }

  private func strings(_ key: String) -> [String] {
    json[key]?.array?.compactMap(\.string) ?? []
  }

  private mutating func readModelOpt() {
    ignoredNames = strings("ignore") + strings("exclude_modules")
    let size = json["group_size"]?.int ?? 16
    switch json["quant_algo"]?.string {
    case "FP8":
      uniform = ModuleScheme(
        layout: .modeloptFP8, bits: 8, isFloat: true, group: 0, inputs: .staticTensor)
    case "NVFP4":
      uniform = ModuleScheme(
        layout: .modeloptNVFP4, bits: 4, isFloat: true, group: max(1, size), inputs: .local)
    case "W4A16_NVFP4":
      uniform = ModuleScheme(
        layout: .modeloptNVFP4, bits: 4, isFloat: true, group: max(1, size))
    default: break
    }
  }

  private mutating func readGroups() {
    var budget = ModuleTargets.costLimit
    ignoredNames = strings("ignore")
    do {
      ignored = try ModuleTargets(json["ignore"], path: place, field: "ignore", budget: &budget)
    } catch { faults.append(Fault("\(place).ignore", "\(shown("\(error)"))")) }
    let format = json["format"]?.string ?? ""
    for (name, group) in json["config_groups"]?.object ?? JSONObject() {
      guard groups.count < Self.listLimit else {
        faults.append(Fault(place, "it has more than \(Self.listLimit) groups"))
        break
      }
      let field = "\(place).config_groups.\(shown(name))"
      let targets: ModuleTargets
      do {
        targets = try ModuleTargets(
          group["targets"], path: place, field: "config_groups", budget: &budget)
      } catch {
        faults.append(Fault(field, "\(shown("\(error)"))"))
        continue
      }
      guard let weights = group["weights"], weights.object != nil else {
        // A group may be for a cache, or for activations alone.
        continue
      }
      groups.append(
        Group(
          name: name, targets: targets,
          scheme: ModuleScheme(
            weights, group["input_activations"] ?? .null,
            format: group["format"]?.string ?? format)))
    }
  }
}

extension ModuleScheme {
  /// The scheme of quantization arguments of compressed-tensors.
  ///
  /// - Parameter format: the group's, else that of the whole config.
  init(_ weights: JSON, _ inputs: JSON, format: String) {
    let bits = weights["num_bits"]?.int ?? 8
    let isFloat = weights["type"]?.string == "float"
    let size = weights["group_size"]?.int ?? 0
    let strategy =
      weights["strategy"]?.string ?? (size > 0 ? "group" : size == -1 ? "channel" : "tensor")
    let group =
      switch strategy {
      case "group", "tensor_group": size > 0 ? size : -1
      case "channel": -1
      case "block": -2
      default: 0
      }
    var layout = Layout(rawValue: format) ?? .other
    if format.isEmpty || format == "mixed-precision" {
      layout =
        isFloat
        ? bits == 8 ? .floatQuantized : strategy == "tensor_group" ? .nvfp4 : .mxfp4
        : inputs.isNull ? .packQuantized : .intQuantized
    }
    self.init(layout: layout, bits: bits, isFloat: isFloat, group: group)
    isSymmetric = weights["symmetric"]?.bool ?? true
    block = weights["block_structure"]?.array?.compactMap(\.int) ?? []
    if group == -2, block.count != 2 { block = [128, 128] }
    let order = weights["actorder"]?.string ?? ""
    ordersInputs = weights["actorder"]?.bool ?? ["group", "dynamic"].contains(order)
    guard inputs.object != nil else { return }
    inputBits = inputs["num_bits"]?.int ?? 8
    inputsAreSymmetric = inputs["symmetric"]?.bool ?? true
    let isDynamic = inputs["dynamic"]?.bool ?? false
    self.inputs =
      switch inputs["strategy"]?.string ?? "tensor" {
      case "token": .dynamicToken
      case "group", "block": isDynamic ? .dynamicGroup : .other
      case "tensor_group": .local
      case "tensor": isDynamic ? .dynamicTensor : .staticTensor
      default: .other
      }
  }
}
