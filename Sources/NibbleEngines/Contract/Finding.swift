/// A difference between a checkpoint and what an engine reads.
public struct Finding: Hashable, Sendable {
  public enum Level: String, Hashable, Sendable {
    case error
    case warning
  }

  /// What the engine does with such a checkpoint.
  public enum Effect: String, Hashable, Sendable {
    /// It stops with an error.
    case refuses
    /// It starts and computes something else than the model.
    case wrong

    var text: String { self == .refuses ? "is refused" : "runs wrongly" }
  }

  public var level: Level
  /// Name of the rule in the contract.
  public var rule: String
  /// Name of the check, such as `SHAPE`.
  public var check: String
  /// Tensor, module, key or file.
  public var place: String
  /// Number of places with the same problem.
  public var count: Int
  /// What is wrong there.
  public var problem: String
  public var effect: Effect
  /// The engine's message, or what it computes instead.
  public var happens: String
  public var fix: String
  /// Issue, file or document that the rule comes from.
  public var source: String
}

extension Finding: CustomStringConvertible {
  /// One line.
  public var description: String {
    let places = count == 1 ? place : "\(place) and \(count - 1) more"
    return
      "\(level.rawValue): \(rule) \(check): \(places): \(problem); \(effect.text): \(happens). "
      + "Fix: \(fix) [\(source)]"
  }
}

/// One place that breaks a rule. The rule says what that means.
struct Fault: Hashable {
  var place: String
  var problem: String

  init(_ place: String, _ problem: String) {
    self.place = place
    self.problem = problem
  }
}
