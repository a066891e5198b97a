import ArgumentParser
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract:
      "Find what an engine would refuse or run wrongly in anyone's checkpoint, and changed files.",
    discussion: """
      With --for it reads configs, headers and small tensors of a folder or a .gguf file, whoever wrote it, and \
      holds them against the engine's contract: rules with the versions and the source that each comes from. A \
      line says what is wrong and where, what the engine does, and how to repair it. Each weight of an Ascend \
      model is read as well. Without --for it holds a folder that nibble wrote against its checksums.

      Exit status 65 when there is an error, or a file changed since it was written; warnings alone are 0.
      """)

  @Argument(help: "A folder with config.json and safetensors, or a .gguf file.")
  var model: String
  @Option(
    name: .customLong("for"),
    help: """
      The engine, and after @ its version: \
      \(EngineContract.all.map(\.description).joined(separator: ", ")). \
      Default: the checksums alone.
      """)
  var engine: CheckedEngine?
  @Option(help: "Ranks that will run the model together.")
  var tp = 1
  @Flag(help: "Print one JSON object.")
  var json = false

  func validate() throws {
    guard (1...1024).contains(tp) else { throw ValidationError("--tp is \(tp); use 1 to 1024.") }
  }

  func run() throws {
    var report = EngineCheck.Report()
    if let engine {
      report = try EngineCheck(engine.contract, version: engine.version).run(
        path: model, ranks: tp, on: Compute(precision: .f32))
    }
    var changed: [String] = []
    if let checksums = FileChecksums(
      report: (try? Checkpoint.json(model + "/" + CompanionFiles.reportName)) ?? .null)
    {
      changed = checksums.faults(in: model)
    } else if engine == nil {
      throw ModelError.notAModel(
        path: model,
        reason:
          "there are no checksums in \(CompanionFiles.reportName). Name an engine with --for, or "
          + "quantize again with this version")
    }
    if json { printJSON(report, changed) } else { printText(report, changed) }
    if !report.errors.isEmpty || !changed.isEmpty { throw ExitCode(Failure.badInput) }
  }

  private func printText(_ report: EngineCheck.Report, _ changed: [String]) {
    for note in report.notes { Terminal.print("note: \(note)") }
    for fault in changed { Terminal.print("fault: \(fault)") }
    for finding in report.findings { Terminal.print("\(finding)") }
    let (errors, warnings) = (report.errors.count + changed.count, report.warnings.count)
    var parts = [errors == 0 ? "sound" : "errors: \(errors)"]
    if warnings > 0 { parts.append("warnings: \(warnings)") }
    if let engine {
      parts.append("\(engine), \(report.tensors) tensors")
      if report.compressedBlocks > 0 {
        parts.append("\(report.compressedBlocks) compressed blocks")
      }
    }
    Terminal.print(parts.joined(separator: "; "))
  }

  private func printJSON(_ report: EngineCheck.Report, _ changed: [String]) {
    Terminal.print([
      "engine": engine.map { .string($0.contract.engine) } ?? .null,
      "version": (engine?.version ?? engine?.contract.newest).map { .string("\($0)") } ?? .null,
      "tensors": JSON(report.tensors), "compressed_blocks": JSON(report.compressedBlocks),
      "findings": .array(report.findings.map(\.json)),
      "faults": .array((changed + report.errors.map(\.description)).map { .string($0) }),
      "notes": .array(report.notes.map { .string($0) }),
    ])
  }
}

/// An engine and its version, as `vllm` or `vllm@0.10`.
struct CheckedEngine: ExpressibleByArgument, CustomStringConvertible {
  let contract: EngineContract
  /// Nil for the newest that the contract covers.
  let version: EngineVersion?

  init?(argument: String) {
    let parts = argument.split(separator: "@", omittingEmptySubsequences: false).map(String.init)
    guard parts.count <= 2, let contract = EngineContract.named(parts[0]) else { return nil }
    self.contract = contract
    guard parts.count == 2 else {
      version = nil
      return
    }
    guard let version = EngineVersion(parts[1]), contract.covers(version) else { return nil }
    self.version = version
  }

  static var allValueStrings: [String] { EngineContract.all.map(\.engine) }

  var description: String {
    contract.engine + ((version ?? contract.newest).map { " \($0)" } ?? "")
  }
}
