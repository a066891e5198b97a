import NibbleFormats

/// IGN: the list of float modules and the tensors agree.
enum IgnoreCheck {
  /// Float layers that the config says are quantized.
  static func unlisted(_ facts: CheckpointFacts) -> [Fault] {
    // Of an unknown family, a module counts as linear if one of its name is quantized elsewhere.
    let quantized = Set(facts.linears.filter(\.isStoredQuantized).map(\.name))
    return facts.linears.compactMap { linear in
      guard linear.scheme != nil, linear.isDeclared, let module = linear.module,
        module.isFloatLinear, facts.shape != nil || quantized.contains(linear.name)
      else { return nil }
      return Fault(linear.path, "its weight is float, and the config does not list it as such")
    }
  }

  /// Quantized layers that the config says are float.
  static func covered(_ facts: CheckpointFacts) -> [Fault] {
    facts.linears.compactMap { linear in
      guard linear.scheme == nil, linear.isDeclared, linear.isStoredQuantized,
        facts.method != "float"
      else { return nil }
      let names = linear.module.map { module in
        StoredModule.quantized.filter { module[$0] != nil }.sorted()
      }
      return Fault(
        linear.path,
        "it is quantized (\((names ?? []).joined(separator: ", "))), and the config says float")
    }
  }

  /// Entries that name the parts of a layer which is stored fused, or the other way round.
  static func twins(_ facts: CheckpointFacts) -> [Fault] {
    facts.quantization.ignoredNames.compactMap { entry in
      guard !entry.hasPrefix("re:"), !entry.contains("*"), facts.modules[entry] == nil,
        let fused = FusedModules.fused(entry), facts.modules[fused] != nil
      else { return nil }
      return Fault(
        shown(entry),
        "there is no such module; \(StoredModule.lastComponent(of: fused)) is stored fused")
    }
  }
}
