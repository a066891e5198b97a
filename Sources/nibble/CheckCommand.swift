import ArgumentParser
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Hold a written model against its checksums and what its engine reads.",
    discussion: """
      Exit status 65 when a file changed since it was written, or when the engine would refuse something. \
      For Ascend it reads every compressed block.
      """)

  @Argument(help: "A folder that nibble wrote; for Ascend also one of msModelSlim's.")
  var model: String
  @Option(name: .customLong("for"), help: "The engine: ascend. Default: the checksums alone.")
  var engine: Engine?
  @Option(help: "Ranks that will run the model together.")
  var tp = 1
  @Flag(help: "Print one JSON object.")
  var json = false

  func validate() throws {
    guard engine == nil || engine == .ascend else {
      throw ValidationError("--for is \(engine?.rawValue ?? ""); ascend alone is checked.")
    }
    guard (1...1024).contains(tp) else { throw ValidationError("--tp is \(tp); use 1 to 1024.") }
  }

  func run() throws {
    var report = AscendCheck.Report()
    if engine == .ascend {
      report = try AscendCheck(path: model, ranks: tp).run(on: Compute(precision: .f32))
    }
    if let checksums = FileChecksums(
      report: (try? Checkpoint.json(model + "/" + CompanionFiles.reportName)) ?? .null)
    {
      report.faults += checksums.faults(in: model)
    } else if engine == nil {
      throw ModelError.notAModel(
        path: model,
        reason:
          "there are no checksums in \(CompanionFiles.reportName). Name an engine with --for, or "
          + "quantize again with this version")
    } else {
      report.notes.append("no checksums: the folder was not written by this version of Nibble")
    }
    if json {
      Terminal.print([
        "tensors": JSON(report.tensors), "compressed_blocks": JSON(report.compressedBlocks),
        "faults": .array(report.faults.map { .string($0) }),
        "notes": .array(report.notes.map { .string($0) }),
      ])
    } else {
      for note in report.notes { Terminal.print("note: \(note)") }
      for fault in report.faults { Terminal.print("fault: \(fault)") }
      let seen = "\(report.tensors) tensors, \(report.compressedBlocks) compressed blocks"
      Terminal.print(
        (report.faults.isEmpty ? "sound" : "faults: \(report.faults.count)")
          + (engine == nil ? "" : "; " + seen))
    }
    if !report.faults.isEmpty { throw ExitCode(Failure.badInput) }
  }
}
