import NibbleFormats
import NibbleModel
import NibbleText

/// The modules that a `quantization_config` names: by path or class, or by a regular expression
/// after `re:` that must match a prefix of the path.
///
/// Source: compressed-tensors 0.20, `utils/match.py`, which calls Python's `re.match`.
struct ModuleTargets: Sendable {
  /// Exact paths and class names.
  private(set) var names: Set<String> = []
  private var patterns: [NamePattern] = []

  /// Limit of the total instructions of all expressions in a config: the cost of matching, per
  /// character of a path.
  static let costLimit = 20_000

  /// - Parameters:
  ///   - json: an array of strings; null for none.
  ///   - field: its place in the config, for errors.
  ///   - budget: the rest of ``costLimit``; reduced by the cost of the expressions.
  init(
    _ json: JSON?, path: String, field: String, budget: inout Int
  ) throws(ModelError) {
    guard let json, !json.isNull else { return }
    guard let entries = json.array else {
      throw .config(path: path, field: field, reason: "is \(json.kind), not a list of modules")
    }
    for entry in entries {
      guard let text = entry.string else {
        throw .config(
          path: path, field: field, reason: "holds \(entry.kind), not the name of a module")
      }
      guard text.hasPrefix("re:") else {
        names.insert(text)
        continue
      }
      let pattern: NamePattern
      do { pattern = try NamePattern(String(text.dropFirst(3))) } catch {
        var reason = "\(error)"
        if case .badPattern(_, let why) = error { reason = why }
        throw .config(
          path: path, field: field,
          reason: "holds the expression \"\(shown(text))\", which cannot be used: \(reason). "
            + "Write it without that, or name the modules")
      }
      budget -= pattern.cost
      guard budget >= 0 else {
        throw .config(
          path: path, field: field,
          reason: "holds expressions that are too long: more than \(Self.costLimit) steps for each "
            + "character of a module's path. Name the modules")
      }
      patterns.append(pattern)
    }
  }

  /// No modules.
  init() {}

  mutating func insert(_ name: String) { names.insert(name) }

  /// Whether it names a module by its path, or by an expression.
  func contains(_ path: String) -> Bool { names.contains(path) || matches(path) }

  /// Whether an expression matches a prefix of `path`.
  func matches(_ path: String) -> Bool { patterns.contains { $0.matchesStart(of: path) } }
}
