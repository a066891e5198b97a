import NibbleFormats
import NibbleModel
import NibbleTensor

/// TIE: the head and the embedding share their weight, or have one each.
enum HeadCheck {
  private static let names = ["lm_head", "language_model.lm_head", "model.lm_head"]

  private static func head(_ facts: CheckpointFacts) -> StoredModule? {
    let path = facts.shape?.head.path
    return ([path].compactMap(\.self) + names).compactMap { facts.modules[$0] }.first
  }

  private static func embedding(_ facts: CheckpointFacts) -> StoredModule? {
    if let path = facts.shape?.embedding.path { return facts.modules[path] }
    return facts.modules.values.filter { $0.name == "embed_tokens" }.min { $0.path < $1.path }
  }

  /// Nil if neither the config nor the family says.
  private static func isTied(_ facts: CheckpointFacts) -> Bool? {
    let outer = facts.config["tie_word_embeddings"]?.bool
    if let flag = outer ?? facts.field("tie_word_embeddings")?.bool { return flag }
    return facts.shape?.head.isTied
  }

  static func absent(_ facts: CheckpointFacts) -> [Fault] {
    guard isTied(facts) == false, head(facts) == nil, embedding(facts) != nil else { return [] }
    if let path = facts.shape?.head.path, !names.contains(path) { return [] }
    return [
      Fault("config.json: tie_word_embeddings", "it is false, and there is no lm_head.weight")
    ]
  }

  /// A head beside a tied embedding. Parameters: `equal`, whether one with the same bytes counts too.
  static func stored(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard isTied(facts) == true, let head = head(facts)?["weight"],
      let table = embedding(facts)?["weight"]
    else { return [] }
    let limit = CheckpointFacts.valueLimit
    let isEqual =
      head.dtype == table.dtype && head.shape == table.shape
      && facts.weights.bytes(of: head.name, limit: limit)?.array
        == facts.weights.bytes(of: table.name, limit: limit)?.array
      && facts.weights.lastBytes(of: head.name, limit: limit)?.array
        == facts.weights.lastBytes(of: table.name, limit: limit)?.array
    guard !isEqual || rule.bool("equal") else { return [] }
    return [
      Fault(
        head.name,
        "the config says tied, and it is stored"
          + (isEqual ? " a second time" : " with other numbers than the embedding"))
    ]
  }

  static func quantizedHead(_ facts: CheckpointFacts) -> [Fault] {
    guard let head = head(facts), head.isQuantized else { return [] }
    let names = StoredModule.quantized.filter { head[$0] != nil }.sorted()
    return [Fault(head.path, "the head is quantized (\(names.joined(separator: ", ")))")]
  }

  static func quantizedTiedHead(_ facts: CheckpointFacts) -> [Fault] {
    guard isTied(facts) == true, let head = head(facts), head.isQuantized else { return [] }
    return [Fault(head.path, "the head is quantized, and the config says tied")]
  }

  /// Parameters: `packed`, whether symmetric packed integers are read.
  static func quantizedEmbedding(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    guard let table = embedding(facts), table.isQuantized else { return [] }
    if rule.bool("packed"), table["weight_packed"] != nil, table["weight_zero_point"] == nil {
      return []
    }
    return [Fault(table.path, "the embedding is quantized")]
  }
}
