import NibbleFormats
import NibbleModel

/// A linear layer of the model: its size if known, its tensors, and what the config says about it.
struct LinearFact {
  enum Kind {
    case plain
    /// Decides which experts a token visits, or how much a shared expert counts.
    case router
    case head
    case embedding
  }

  var path: String
  /// Nil if neither the family nor the tensors give it.
  var outputs: Int?
  var inputs: Int?
  var kind = Kind.plain
  /// The index of its expert; nil outside experts.
  var expert: Int?
  /// The tensors that are there; nil if there are none.
  var module: StoredModule?
  /// What the config says; nil for a float layer.
  var scheme: ModuleScheme?
  /// Whether the config decides by itself; otherwise the tensors do.
  var isDeclared = true

  var name: String { StoredModule.lastComponent(of: path) }
  var isRowParallel: Bool { FusedModules.rowParallel.contains(name) }
  var isStoredQuantized: Bool { module?.isQuantized ?? false }
  /// The engine's layer that it becomes a part of: all experts of a block are one.
  var fused: String? { FusedModules.fused(path) }

  /// The module that holds all experts of a block; nil outside experts.
  var expertsPath: String? {
    guard expert != nil, let range = path.firstRange(of: ".experts.") else { return nil }
    return String(path[..<range.lowerBound]) + ".experts"
  }

  private init(_ path: String, _ module: StoredModule?) {
    self.path = path
    self.module = module
    kind = Self.isRouter(path) ? .router : .plain
    expert = Self.expert(of: path)
  }

  static func isRouter(_ path: String) -> Bool {
    let name = StoredModule.lastComponent(of: path)
    if ["router", "shared_expert_gate"].contains(name) { return true }
    let parent = StoredModule.lastComponent(of: StoredModule.parent(of: path))
    return name == "gate"
      && ["mlp", "block_sparse_moe", "moe", "feed_forward", "router"].contains(parent)
      || parent == "router" && ["proj", "layer", "classifier"].contains(name)
  }

  private static func expert(of path: String) -> Int? {
    guard let range = path.firstRange(of: ".experts.") else { return nil }
    return Int(path[range.upperBound...].prefix { $0 != "." })
  }

  /// All linear layers: those of the family, or the modules that look like some.
  static func all(
    _ shape: DecoderShape?, _ modules: [String: StoredModule], _ config: QuantizationConfig
  ) -> [LinearFact] {
    var facts: [LinearFact] = []
    if let shape {
      for block in shape.blocks {
        for linear in block.linears where linear.stack == nil {
          let path = block.path(of: linear.id)
          var fact = LinearFact(path, modules[path])
          // A transposed weight keeps the format's own order of sizes only where it is float.
          if !linear.isTransposed {
            (fact.outputs, fact.inputs) = (linear.outputs, linear.inputs)
          }
          if linear.staysFloat { fact.kind = .router }
          facts.append(fact)
        }
      }
      if !shape.head.isTied || modules[shape.head.path] != nil {
        var head = LinearFact(shape.head.path, modules[shape.head.path])
        head.kind = .head
        facts.append(head)
      }
      if let module = modules[shape.embedding.path] {
        var table = LinearFact(shape.embedding.path, module)
        table.kind = .embedding
        facts.append(table)
      }
    } else {
      facts = modules.values.filter(isLinear).map { module in
        var fact = LinearFact(module.path, module)
        if module.name == "lm_head" { fact.kind = .head }
        if module.name == "embed_tokens" { fact.kind = .embedding }
        return fact
      }.sorted { $0.path < $1.path }
    }
    for index in facts.indices {
      let decided = config.decide(facts[index])
      (facts[index].scheme, facts[index].isDeclared) = (decided.scheme, decided.isDeclared)
      facts[index].inferSizes()
    }
    return facts
  }

  private static func isLinear(_ module: StoredModule) -> Bool {
    if module.isQuantized { return true }
    guard module.isFloatLinear else { return false }
    let name = module.name
    return !name.hasSuffix("norm") && !name.contains("embed") && !name.hasPrefix("wte")
      && !name.hasPrefix("wpe") && (module.path.contains(".") || name == "lm_head")
      || name == "embed_tokens"
  }
}
