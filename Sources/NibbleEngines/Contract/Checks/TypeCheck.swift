import NibbleFormats

/// DTYPE: the engine has kernels for the type of the activations, and the model fits into it.
enum TypeCheck {
  /// Parameters: `rejects`, types of activations; `models`, the `model_type`s that it is about, or
  /// none for all.
  static func activations(_ facts: CheckpointFacts, _ rule: RuleParameters) -> [Fault] {
    let models = rule.strings("models")
    let types = [facts.config["model_type"]?.string, facts.field("model_type")?.string]
    guard models.isEmpty || types.contains(where: { $0.map(models.contains) ?? false }) else {
      return []
    }
    guard let type = facts.activationType, rule.strings("rejects").contains(type) else { return [] }
    return [Fault("config.json: torch_dtype", "it is \(type)")]
  }
}
