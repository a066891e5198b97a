import ArgumentParser
import NibbleExport
import NibbleFormats
import NibbleTensor

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Hold a written model against what its engine reads.",
    discussion: "Exit status 65 when something would be refused. Reads every compressed block.")

  @Argument(help: "A folder for Ascend: W8A8, W8A8S, W8A8SC, W8A16 or W8A8_DYNAMIC.")
  var model: String
  @Option(name: .customLong("for"), help: "The engine: ascend.")
  var engine: Engine
  @Option(help: "Ranks that will run the model together.")
  var tp = 1
  @Flag(help: "Print one JSON object.")
  var json = false

  func validate() throws {
    guard engine == .ascend else {
      throw ValidationError("--for is \(engine.rawValue); ascend alone is checked.")
    }
    guard (1...1024).contains(tp) else { throw ValidationError("--tp is \(tp); use 1 to 1024.") }
  }

  func run() throws {
    let report = try AscendCheck(path: model, ranks: tp).run(on: Compute(precision: .f32))
    if json {
      Terminal.print([
        "tensors": JSON(report.tensors), "compressed_blocks": JSON(report.compressedBlocks),
        "faults": .array(report.faults.map { .string($0) }),
        "notes": .array(report.notes.map { .string($0) }),
      ])
    } else {
      for note in report.notes { Terminal.print("note: \(note)") }
      for fault in report.faults { Terminal.print("fault: \(fault)") }
      Terminal.print(
        "\(report.faults.isEmpty ? "sound" : "\(report.faults.count) faults"): \(report.tensors) "
          + "tensors, \(report.compressedBlocks) compressed blocks")
    }
    if !report.faults.isEmpty { throw ExitCode(Failure.badInput) }
  }
}
