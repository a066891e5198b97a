import NibbleFormats

/// One rule of an engine: data for a check, and what it means to break it.
struct ContractRule: Hashable {
  /// Unique within a contract. A rule of an engine replaces the shared one with the same id.
  var id: String
  /// Key in ``ContractChecks/all``: the name of a check, and after a dot which part of it.
  var check: String
  /// Nil for all versions of the contract.
  var versions: VersionRange?
  /// Quantization methods that it applies to; nil for all of a folder.
  var methods: [String]?
  var level: Finding.Level
  var effect: Finding.Effect
  var happens: String
  var fix: String
  var source: String
  var parameters: RuleParameters
  /// Whether it is about what a writer makes, not about the model that it was given.
  var isForWriters: Bool

  /// Nil if a field is missing or not what it must be.
  init?(_ json: JSON) {
    guard let id = json["id"]?.string, let check = json["check"]?.string,
      let level = Finding.Level(rawValue: json["level"]?.string ?? "error"),
      let effect = (json["effect"]?.string).flatMap({ Finding.Effect(rawValue: $0) }),
      let happens = json["happens"]?.string, let fix = json["fix"]?.string,
      let source = json["source"]?.string
    else { return nil }
    if let text = json["versions"]?.string {
      guard let versions = VersionRange(text) else { return nil }
      self.versions = versions
    }
    methods = json["for"]?.array?.compactMap(\.string)
    (self.id, self.check, self.level, self.effect) = (id, check, level, effect)
    (self.happens, self.fix, self.source) = (happens, fix, source)
    parameters = RuleParameters(json: json["with"] ?? [:])
    isForWriters = json["written"]?.bool ?? false
  }

  /// Name of the check without its part.
  var checkName: String { String(check.prefix { $0 != "." }) }

  /// - Parameter version: nil for an engine whose rules name no versions.
  func applies(to facts: CheckpointFacts, version: EngineVersion?) -> Bool {
    if let versions, let version, !versions.contains(version) { return false }
    guard let methods else { return !facts.isGGUF }
    return methods.contains(facts.method)
  }
}

/// The numbers and names that a rule gives to its check.
struct RuleParameters: Hashable {
  var json: JSON

  func int(_ key: String) -> Int? { json[key]?.int }
  func double(_ key: String) -> Double? { json[key]?.double }
  func bool(_ key: String) -> Bool { json[key]?.bool ?? false }
  func string(_ key: String) -> String? { json[key]?.string }
  func ints(_ key: String) -> [Int] { json[key]?.array?.compactMap(\.int) ?? [] }
  func strings(_ key: String) -> [String] { json[key]?.array?.compactMap(\.string) ?? [] }
}
