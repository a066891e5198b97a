import NibbleFormats

extension QuantizationConfig {
  /// What the config says about a layer.
  ///
  /// - Returns: the scheme, nil for a float layer; and whether the config says so, rather than the
  ///   tensors.
  func decide(_ linear: LinearFact) -> (scheme: ModuleScheme?, isDeclared: Bool) {
    let isStored = linear.isStoredQuantized
    switch method {
    case "compressed-tensors":
      return (groupScheme(linear), true)
    case "awq":
      guard linear.kind == .plain else { return (isStored ? uniform : nil, !isStored) }
      // Engines know the experts of a layer as one module.
      let path = linear.expertsPath ?? linear.path
      if ignoredNames.contains(where: { path.contains($0) }) { return (nil, true) }
      return (ignoredNames.isEmpty && !isStored ? nil : uniform, !ignoredNames.isEmpty)
    case "gptq": return gptqScheme(linear, isStored)
    case "fp8":
      guard linear.kind == .plain else { return (nil, true) }
      return (ignores(linear.path) ? nil : uniform, true)
    case "modelopt", "modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8":
      guard linear.kind == .plain, uniform != nil else { return (nil, false) }
      let isKept = ignoredNames.contains { Self.matches(linear.path, wildcard: $0) }
      return (isKept ? nil : uniform, true)
    case "mlx":
      if linear.module?["scales"] == nil { return (nil, false) }
      let own = json[linear.path]
      guard var scheme = uniform, own?.bool != false else { return (nil, true) }
      if let own, own.object != nil {
        scheme.bits = own["bits"]?.int ?? scheme.bits
        scheme.group = own["group_size"]?.int ?? scheme.group
        scheme.isSymmetric = (own["mode"]?.string ?? "affine") != "affine"
      }
      return (scheme, true)
    case "smooth_quant":
      guard linear.kind == .plain else { return (nil, true) }
      let isKept = ignoredNames.contains { linear.path.contains($0) }
      return (isKept ? nil : uniform, true)
    case "float": return (nil, true)
    default: return (nil, false)
    }
  }

  /// The group that names the layer, its engine's fused layer, or its class.
  private func groupScheme(_ linear: LinearFact) -> ModuleScheme? {
    if ignores(linear.path) { return nil }
    if linear.kind == .embedding {
      let isNamed = groups.first { $0.targets.contains(linear.path) }
      return (isNamed ?? groups.first { $0.targets.names.contains("Embedding") })?.scheme
    }
    let named = groups.first { $0.targets.contains(linear.path) }
    if let named { return named.scheme }
    let byClass = groups.first(where: \.isForClass)
    // The class of a router, and of a tied head, is another one in engines.
    if linear.kind == .router { return linear.isStoredQuantized ? byClass?.scheme : nil }
    return byClass?.scheme
  }

  /// Whether the config lists a layer, or the fused layer that it becomes a part of, as float.
  func ignores(_ path: String) -> Bool {
    ignored.contains(path) || FusedModules.fused(path).map { ignored.contains($0) } ?? false
      || ignoresClass
  }

  private func gptqScheme(
    _ linear: LinearFact, _ isStored: Bool
  ) -> (scheme: ModuleScheme?, isDeclared: Bool) {
    if linear.kind == .head { return (json["lm_head"]?.bool == true ? uniform : nil, true) }
    guard linear.kind == .plain else { return (isStored ? uniform : nil, !isStored) }
    guard var scheme = uniform else { return (nil, false) }
    if let override = overrides.first(where: { $0.targets.matches(linear.path) }) {
      let change = override.change
      if change.isNull { return (nil, true) }
      scheme.bits = change["bits"]?.int ?? scheme.bits
      let size = change["group_size"]?.int ?? scheme.group
      scheme.group = size > 0 ? size : -1
      scheme.isSymmetric = change["sym"]?.bool ?? scheme.isSymmetric
      scheme.ordersInputs = change["desc_act"]?.bool ?? scheme.ordersInputs
      return (scheme, true)
    }
    let lists = json["modules_in_block_to_quantize"]?.array
    guard let lists else { return (isStored ? scheme : nil, false) }
    let names = lists.flatMap { $0.array ?? [$0] }.compactMap(\.string)
    return (names.contains { linear.path.contains($0) } ? scheme : nil, true)
  }

  /// Whether a path matches a pattern in which `*` stands for any text, or contains a plain name.
  static func matches(_ path: String, wildcard: String) -> Bool {
    let parts = wildcard.split(separator: "*", omittingEmptySubsequences: false)
    guard parts.count > 1 else { return path == wildcard || path.contains(wildcard) }
    var rest = path[...]
    guard rest.hasPrefix(parts[0]) else { return false }
    rest = rest.dropFirst(parts[0].count)
    for part in parts.dropFirst().dropLast() {
      guard let range = rest.firstRange(of: part) else { return false }
      rest = rest[range.upperBound...]
    }
    return rest.hasSuffix(parts[parts.count - 1])
  }
}
