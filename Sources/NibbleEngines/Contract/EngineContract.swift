import NibbleFormats

/// What an engine accepts, as data: rules that name a check, its numbers and their source.
///
/// A contract is a file in `Contract/Engines`, compiled into the program.
public struct EngineContract: Sendable, CustomStringConvertible {
  /// Name after `--for`.
  public let engine: String
  /// Nil for an engine whose rules name no versions.
  let versions: VersionRange?
  let rules: [ContractRule]

  /// The version that is assumed if none is given: the newest that the rules were read in.
  public var newest: EngineVersion? { versions?.last }

  /// All contracts, one per engine.
  public static let all: [EngineContract] = [
    PackageResources.vllm_contract_json, PackageResources.transformers_contract_json,
    PackageResources.lmdeploy_contract_json, PackageResources.lmdeploy_pytorch_contract_json,
    PackageResources.sglang_contract_json, PackageResources.llama_cpp_contract_json,
    PackageResources.mlx_contract_json, PackageResources.ascend_contract_json,
    PackageResources.vllm_ascend_contract_json, PackageResources.onnxruntime_contract_json,
  ].map { EngineContract(compiledIn: $0) }

  /// What a format demands of its files, whoever reads them: the rules for Nibble's own output.
  static let files = EngineContract(compiledIn: PackageResources.files_contract_json)

  public static func named(_ engine: String) -> EngineContract? {
    all.first { $0.engine == engine }
  }

  /// - Precondition: the file is one of ours and is whole; a test reads all of them.
  private init(compiledIn bytes: [UInt8]) {
    guard let json = try? JSON(parsing: bytes), let contract = EngineContract(json) else {
      preconditionFailure("a contract of this program cannot be read")
    }
    self = contract
  }

  /// Nil if a field or a rule cannot be read.
  init?(_ json: JSON) {
    guard let engine = json["engine"]?.string, let list = json["rules"]?.array else { return nil }
    let versions = (json["versions"]?.string).flatMap { VersionRange($0) }
    guard versions != nil || json["versions"] == nil else { return nil }
    var rules = list.compactMap { ContractRule($0) }
    guard rules.count == list.count, Set(rules.map(\.id)).count == rules.count else { return nil }
    if json["includes"]?.string == "files" {
      let own = Set(rules.map(\.id) + (json["without"]?.array?.compactMap(\.string) ?? []))
      rules = Self.files.rules.filter { !own.contains($0.id) } + rules
    }
    (self.engine, self.versions, self.rules) = (engine, versions, rules)
  }

  /// Whether the contract says something about a version.
  public func covers(_ version: EngineVersion) -> Bool { versions?.contains(version) ?? false }

  /// The engine with its first and last version, for messages.
  public var description: String {
    guard let versions else { return engine }
    return versions.first == versions.last
      ? "\(engine) \(versions.last)" : "\(engine) \(versions.first) to \(versions.last)"
  }

  /// The rules that a checkpoint breaks: errors first, each problem once with the number of its
  /// places.
  ///
  /// - Parameter version: nil for the newest.
  public func findings(in facts: CheckpointFacts, version: EngineVersion? = nil) -> [Finding] {
    findings(in: facts, version: version) { _ in true }
  }

  private func findings(
    in facts: CheckpointFacts, version: EngineVersion? = nil, where isWanted: (ContractRule) -> Bool
  ) -> [Finding] {
    var findings: [Finding] = []
    for rule in rules where rule.applies(to: facts, version: version ?? newest) && isWanted(rule) {
      guard let check = ContractChecks.all[rule.check] else {
        preconditionFailure("\(rule.id): there is no check \(rule.check)")
      }
      guard facts.isComplete || !check.needsAllTensors else { continue }
      findings += Self.merged(check.run(facts, rule.parameters), rule)
    }
    return findings.filter { $0.level == .error } + findings.filter { $0.level == .warning }
  }

  /// Number of different problems per rule that are shown one by one.
  private static let shownProblems = 50

  private static func merged(_ faults: [Fault], _ rule: ContractRule) -> [Finding] {
    var findings: [Finding] = []
    var positions: [String: Int] = [:]
    for fault in faults {
      let isShown = positions[fault.problem] != nil || positions.count < shownProblems
      let problem = isShown ? fault.problem : "other problems of this kind"
      if let position = positions[problem] {
        findings[position].count += 1
        continue
      }
      positions[problem] = findings.count
      findings.append(
        Finding(
          level: rule.level, rule: rule.id, check: rule.checkName, place: shown(fault.place),
          count: 1, problem: problem, effect: rule.effect, happens: rule.happens, fix: rule.fix,
          source: rule.source))
    }
    return findings
  }
}

extension EngineContract {
  /// What the rules for writers find in a folder that Nibble wrote, a line each.
  static func writtenFaults(_ folder: String) -> [String] {
    let facts: CheckpointFacts
    do { facts = try CheckpointFacts(path: folder) } catch { return ["\(error)"] }
    // The names of Ascend's tensors are a matter of its description.
    let contract = facts.method == "ascend" ? named("ascend") ?? files : files
    return contract.findings(in: facts) { $0.isForWriters }.map(\.description)
  }
}
