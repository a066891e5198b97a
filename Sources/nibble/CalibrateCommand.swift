import ArgumentParser
import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct CalibrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate",
    abstract: "Keep what a model's activations look like on a text, for every later recipe.",
    discussion: """
      quantize --statistics FILE uses it instead of running the text again. Statistics of several \
      texts merge, in any order, to those of all of them: calibrate MODEL --merge A --merge B -o C.
      """)

  @Argument(help: "A Hugging Face folder or a .gguf file.")
  var model: String
  @Option(name: .shortAndLong, help: "File to write, such as statistics.safetensors.")
  var output: String
  @OptionGroup var calibration: CalibrationOptions
  @OptionGroup var beginning: BeginningOptions
  @Option(help: "Statistics of the same model to put together instead; give two or more.")
  var merge: [String] = []
  @OptionGroup var source: SourceOptions
  @OptionGroup var compute: ComputeOptions
  @Flag(help: "Print the audit as JSON.")
  var json = false

  func validate() throws {
    guard merge.count != 1 else { throw ValidationError("--merge needs two files or more.") }
    guard merge.isEmpty || calibration.calibrate == nil else {
      throw ValidationError("--merge reads statistics, not text; leave --calibrate out.")
    }
  }

  func run() throws {
    let checkpoint = try source.open(model)
    // Checked before the work.
    _ = try OutputFile(output)
    guard merge.isEmpty else {
      let files = try merge.map { (path) throws(QuantizeError) in try StatisticsFile(path: path) }
      try CalibrateRun.merge(files, of: checkpoint, to: output)
      return Terminal.print("wrote \(output): \(files.reduce(0) { $0 + $1.tokens }) tokens")
    }
    guard let tokenizer = try checkpoint.tokenizer() else {
      throw QuantizeError.unmeasurable("calibration needs a tokenizer.json beside the weights")
    }
    let computing = compute.compute(for: checkpoint, calibrates: true)
    let beginning = try beginning.tokens(of: tokenizer)
    let windows = try calibration.windows(
      of: calibration.calibrate ?? "builtin", for: checkpoint, tokenizer, beginning: beginning,
      on: computing)
    Terminal.note("calibration: \(windows.audit)\(BeginningOptions.text(beginning))")
    Interrupt.watch()
    let audits = try CalibrateRun(checkpoint, windows: windows.windows, on: computing).run(
      to: output, progress: { Terminal.progress("[\($0)/\($1)] blocks") },
      shouldStop: { Interrupt.isRequested })
    if Terminal.isInteractive { Terminal.note("") }
    print(audits, windows.audit)
  }

  private func print(_ audits: [CalibrateRun.Audit], _ text: CalibrationAudit) {
    if json {
      return Terminal.print([
        "output": .string(output), "tokens": JSON(text.tokens), "windows": JSON(text.windows),
        "activations": .array(
          audits.map {
            [
              "block": JSON($0.block), "site": .string($0.site.rawValue), "tokens": JSON($0.tokens),
              "peak": .number(Double($0.peak)), "dead_channels": JSON($0.deadChannels),
              "outlier_channels": JSON($0.outlierChannels),
              "still_growing": $0.stillGrowing.map { .number($0) } ?? .null,
            ]
          }),
      ])
    }
    Terminal.print("wrote \(output): \(text)")
    // The experts of a block are reported together.
    let kinds = audits.map { $0.site.isOfExpert ? Site.expertsDown : $0.site }
    var sites: [Site] = []
    for site in kinds where !sites.contains(site) { sites.append(site) }
    for site in sites {
      let here = zip(audits, kinds).filter { $0.1 == site }.map(\.0)
      guard let loudest = here.max(by: { $0.peak < $1.peak }) else { continue }
      let growing = here.compactMap(\.stillGrowing)
      let mean = growing.reduce(0, +) / Double(max(1, growing.count))
      Terminal.print(
        "  \(site.rawValue): peak \(Terminal.number(Double(loudest.peak), 1)) (block "
          + "\(loudest.block)), outlier channels \(here.reduce(0) { $0 + $1.outlierChannels }), dead "
          + "\(here.reduce(0) { $0 + $1.deadChannels }), ranges still growing "
          + "\(Terminal.number(100 * mean, 0)) %")
      guard site == .expertsDown else { continue }
      Terminal.print(
        "    \(here.map(\.tokens).min() ?? 0) tokens or more reached each of \(here.count) experts, none "
          + "reached \(here.count { $0.tokens == 0 })")
    }
  }
}
