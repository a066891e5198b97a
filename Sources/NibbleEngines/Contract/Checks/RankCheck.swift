import NibbleFormats

/// TPG, BLK, TILE and PACK: what each rank gets is whole groups, blocks, tiles and words.
enum RankCheck {
  /// Quantized layers of known sizes.
  private static func sized(
    _ facts: CheckpointFacts
  ) -> [(linear: LinearFact, scheme: ModuleScheme, n: Int, k: Int)] {
    facts.linears.compactMap { linear in
      guard let scheme = linear.scheme, let n = linear.outputs, let k = linear.inputs,
        linear.kind == .plain
      else { return nil }
      return (linear, scheme, n, k)
    }
  }

  /// Outputs of one rank; ranks beyond the key heads hold copies of them.
  private static func outputs(_ linear: LinearFact, _ n: Int, _ facts: CheckpointFacts) -> Int? {
    let isWhole = linear.isRowParallel || FusedModules.replicated.contains(linear.name)
    var ranks = isWhole ? 1 : facts.ranks
    if ["k_proj", "v_proj"].contains(linear.name),
      let heads = facts.field("num_key_value_heads")?.int, heads > 0
    {
      ranks = min(ranks, heads)
    }
    return n.isMultiple(of: ranks) ? n / ranks : nil
  }

  /// Inputs of one rank; nil if ranks do not divide them.
  private static func inputs(_ linear: LinearFact, _ k: Int, _ facts: CheckpointFacts) -> Int? {
    let ranks = linear.isRowParallel ? facts.ranks : 1
    return k.isMultiple(of: ranks) ? k / ranks : nil
  }

  static func groups(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    sized(facts).compactMap { linear, scheme, _, k in
      guard let part = inputs(linear, k, facts) else {
        return Fault(linear.path, "\(facts.ranks) ranks do not divide its \(k) inputs")
      }
      guard scheme.group > 0, !part.isMultiple(of: scheme.group) else { return nil }
      return Fault(
        linear.path,
        "groups of \(scheme.group) do not divide the \(part) inputs of each of \(facts.ranks) ranks"
      )
    }
  }

  /// Only of schemes in blocks.
  static func blocks(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    sized(facts).compactMap { linear, scheme, n, k in
      guard scheme.group == -2, let rows = scheme.block.first, let columns = scheme.block.last,
        rows > 0, columns > 0
      else { return nil }
      if linear.isRowParallel {
        guard let part = inputs(linear, k, facts), part.isMultiple(of: columns) else {
          return Fault(
            linear.path,
            "blocks of \(columns) do not divide \(k) inputs over \(facts.ranks) ranks")
        }
      }
      // The last part of a merged layer may end within a block on one rank.
      let isLast =
        linear.fused.map { FusedModules.parts(of: $0).last == linear.path } ?? true
      if linear.isRowParallel || facts.ranks == 1 && isLast { return nil }
      if FusedModules.replicated.contains(linear.name) { return nil }
      guard let part = outputs(linear, n, facts), part.isMultiple(of: rows) else {
        return Fault(
          linear.path, "blocks of \(rows) do not divide \(n) outputs over \(facts.ranks) ranks")
      }
      return nil
    }
  }

  /// Parameters: `layouts`; `tiles`, pairs of outputs and inputs of which one must divide a layer;
  /// `experts`, whether only experts count.
  static func tiles(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    let layouts = rule.strings("layouts")
    let tiles = rule.json["tiles"]?.array?.compactMap { $0.array?.compactMap(\.int) } ?? []
    let choices = tiles.filter { $0.count == 2 && $0.allSatisfy { $0 > 0 } }
    return sized(facts).compactMap { linear, scheme, n, k in
      guard layouts.contains(scheme.layout.rawValue), (linear.expert != nil) == rule.bool("experts")
      else { return nil }
      guard let rows = outputs(linear, n, facts), let columns = inputs(linear, k, facts) else {
        return Fault(linear.path, "\(facts.ranks) ranks do not divide it")
      }
      if choices.contains(where: { rows.isMultiple(of: $0[0]) && columns.isMultiple(of: $0[1]) }) {
        return nil
      }
      let text = choices.map { "\($0[0]) x \($0[1])" }.joined(separator: " or ")
      return Fault(
        linear.path, "\(rows) outputs and \(columns) inputs of a rank are no tiles of \(text)")
    }
  }

  static func words(_ facts: CheckpointFacts) -> [Fault] {
    sized(facts).compactMap { linear, scheme, n, _ in
      guard [.awq, .gptq].contains(scheme.layout), scheme.bits > 0, scheme.bits <= 32 else {
        return nil
      }
      let values = 32 / scheme.bits
      guard let part = outputs(linear, n, facts), part.isMultiple(of: values) else {
        return Fault(
          linear.path, "\(n) outputs over \(facts.ranks) ranks are not whole words of \(values)")
      }
      return nil
    }
  }
}
