public import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Holds anyone's checkpoint against the contract of an engine.
public struct EngineCheck: Sendable {
  /// Result of the check.
  public struct Report: Hashable, Sendable {
    /// Errors first.
    public var findings: [Finding] = []
    /// Remarks, such as checks that were left out.
    public var notes: [String] = []
    public var tensors = 0
    /// Blocks of compressed codes that were read; for Ascend alone.
    public var compressedBlocks = 0

    public init() {}

    public var errors: [Finding] { findings.filter { $0.level == .error } }
    public var warnings: [Finding] { findings.filter { $0.level == .warning } }
  }

  private let contract: EngineContract
  private let version: EngineVersion?

  /// - Parameters:
  ///   - contract: that of the engine.
  ///   - version: nil for the newest that the contract covers.
  public init(_ contract: EngineContract, version: EngineVersion? = nil) {
    (self.contract, self.version) = (contract, version)
  }

  /// Reads headers, configs and small tensors; for Ascend also every compressed block.
  ///
  /// - Parameters:
  ///   - path: a folder, or a `.gguf` file.
  ///   - ranks: number of ranks that will run the model together.
  ///   - compute: decompresses blocks of Ascend.
  /// - Throws: if there is nothing at the path.
  public func run(
    path: String, ranks: Int, on compute: Compute
  ) throws(ModelError) -> Report {
    var report = Report()
    let hasParts = contract.engine == "ascend" && !AscendParts.folders(of: path).isEmpty
    if !hasParts {
      let facts = try CheckpointFacts(path: path, ranks: ranks)
      report.findings = contract.findings(in: facts, version: version)
      report.notes = facts.notes
      report.tensors = facts.gguf?.tensors.count ?? facts.weights.tensors.count
      guard contract.engine == "ascend", facts.method == "ascend" else { return report }
    }
    do {
      let codes = try AscendCheck(path: path, ranks: ranks).run(on: compute)
      report.findings = codes.faults.map { Self.ascend(path, $0) } + report.findings
      report.notes += codes.notes
      (report.tensors, report.compressedBlocks) = (codes.tensors, codes.compressedBlocks)
    } catch {
      if case .unknownFamily = error {
        report.notes.append("the codes were not read: \(error)")
      } else {
        report.findings.insert(Self.ascend(path, "\(error)"), at: 0)
      }
    }
    return report
  }

  private static func ascend(_ path: String, _ fault: String) -> Finding {
    Finding(
      level: .error, rule: "A0", check: "SET", place: path, count: 1, problem: fault,
      effect: .refuses, happens: "Ascend's consumers do not read it",
      fix: "quantize again, or compress again with the same --tp.", source: "msModelSlim 26.1")
  }
}

extension Finding {
  /// For machines.
  public var json: JSON {
    [
      "level": .string(level.rawValue), "rule": .string(rule), "check": .string(check),
      "place": .string(place), "count": JSON(count), "problem": .string(problem),
      "effect": .string(effect.rawValue), "happens": .string(happens), "fix": .string(fix),
      "source": .string(source),
    ]
  }
}
