import Yams

/// The steps that recipe files can name.
enum StepRegistry {
  static let all: [any Step.Type] = [
    Smooth.self, AWQ.self, Distill.self, Round.self, GPTQ.self, OutlierRound.self,
  ]

  static func step(named name: String) -> (any Step.Type)? { all.first { $0.name == name } }

  /// Reads a step of a recipe file: its name, or its name with settings.
  static func step(_ node: Node) throws -> any Step {
    let known = all.map { $0.name }.joined(separator: ", ")
    if let name = node.string {
      guard let step = step(named: name) else {
        throw RecipeFault("there is no step \(name); known are \(known)")
      }
      return try step.init(nil)
    }
    guard let mapping = node.mapping, mapping.count == 1, let (key, value) = mapping.first,
      let name = key.string, let step = step(named: name)
    else { throw RecipeFault("a step is a name or one name with its settings; known are \(known)") }
    return try step.init(RecipeFields(value, name))
  }
}
