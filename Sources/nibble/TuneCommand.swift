import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct TuneCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tune",
    abstract: "Learn a quantized model's scales and norms so that it answers more like its source.",
    discussion: """
      Reads a checkpoint of Nibble or of another tool (compressed-tensors, awq, fp8) and writes it anew: \
      same codes, same format, same size. The loss is the KL divergence from the source. Text that \
      nothing is learned from decides which step is kept; when the divergence falls on none, nothing is \
      written. A run that was interrupted continues when the same command is given again.
      """)

  @Argument(help: "A quantized folder.")
  var model: String
  @Option(help: "The float model that it was made from.")
  var against: String
  @Option(name: .shortAndLong, help: "Folder to write: new, empty, or of an unfinished run.")
  var output: String
  @Option(help: "Steps to learn.")
  var steps = Tune().steps
  @Option(help: "Tokens in a step.")
  var tokens = Tune().tokens
  @Option(help: "What a scale moves by in the first steps, as a share of itself.")
  var rate = Tune().rate
  @Option(help: "Temperature of the loss; above 1, unlikely tokens count for more.")
  var temperature = Tune().temperature
  @OptionGroup var calibration: CalibrationOptions
  @OptionGroup var verdict: VerdictOptions
  @OptionGroup var beginning: BeginningOptions
  @OptionGroup var config: ConfigOptions
  @Option(help: "Threads; the bytes do not depend on it. Default: one a processor.")
  var threads: Int?
  @Option(help: "Largest KL divergence of the verdict; above it the exit status is 2.")
  var maxKl: Double?
  @Flag(help: "End with one JSON object on standard output.")
  var json = false

  func validate() throws {
    guard (1...100_000).contains(steps) else {
      throw ValidationError("--steps is \(steps); use 1 to 100000.")
    }
    guard (1...1_000_000).contains(tokens) else {
      throw ValidationError("--tokens is \(tokens); use 1 to 1000000.")
    }
    guard rate > 0, rate <= 0.5 else {
      throw ValidationError("--rate is \(rate); use a number above 0, at most 0.5.")
    }
    guard temperature >= 0.1, temperature <= 100 else {
      throw ValidationError("--temperature is \(temperature); use 0.1 to 100.")
    }
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads); use 1 to 1024.")
    }
    if let maxKl, !(maxKl >= 0) { throw ValidationError("--max-kl is \(maxKl); use 0 or more.") }
  }

  func run() throws {
    let clock = ContinuousClock()
    let start = clock.now
    try OutputPath.checked(output, source: model)
    let computing = Compute(threads: threads, precision: .f32)
    let loaded = try LoadedModel(config.openLoadable(model), on: computing)
    let source = try LoadedModel(config.openOther(against), on: computing)
    let (windows, before) = try windows(source, computing)
    var settings = Tune()
    (settings.steps, settings.tokens) = (steps, tokens)
    (settings.rate, settings.temperature) = (rate, temperature)
    Interrupt.watch()
    let report = try TuneRun(
      loaded, against: source, windows: windows, settings: settings, on: computing
    )
    .run(
      to: output, bound: maxKl, progress: show,
      shouldStop: { Interrupt.isRequested })
    if Terminal.isInteractive { Terminal.note("") }
    try finish(report, before, seconds: (clock.now - start) / .seconds(1))
  }

  /// The windows, and the tokens before the text of each.
  private func windows(
    _ source: LoadedModel, _ compute: Compute
  ) throws -> (TuneRun.Windows, beginning: [Int]) {
    let text = calibration.calibrate ?? "builtin"
    let run = try RunWindows(
      verdict, calibration, beginning, text, source.checkpoint, source.decoder.shape, compute)
    var windows = TuneRun.Windows()
    windows.calibration = run.windows.calibration
    windows.heldOut = run.windows.heldOut
    windows.heldOutKinds = run.windows.heldOutKinds
    if text != "builtin" {
      var sampling = CalibrationSampling()
      (sampling.windows, sampling.allowsFewer) = (4, true)
      sampling.length = windows.calibration.map(\.count).max() ?? sampling.length
      windows.other = try sampling.cut(
        CalibrationText(BuiltinText.calibration, path: "builtin"), with: source.tokenizer(),
        beginning: run.beginning
      ).windows
    }
    return (windows, run.beginning)
  }

  private func show(_ progress: TuneRun.Progress) {
    let numbers = progress.divergences.map { Terminal.number($0, 4) }.joined(separator: " and ")
    Terminal.progress(
      "[\(progress.step)/\(progress.steps)] KL on kept-out text \(numbers)"
        + (progress.resumed ? ": learned earlier" : ""))
  }

  private func finish(
    _ report: TuneRun.Report, _ beginning: [Int], seconds: Double
  ) throws {
    let peak = ProcessMemory.peakResidentBytes
    if json {
      Terminal.print([
        "output": .string(report.output), "seconds": .number(seconds),
        "peak_rss_bytes": JSON(peak), "chosen_step": JSON(report.step),
        "parameters": JSON(report.parameters),
        "kl_before": report.before.map { .number($0.kl) } ?? .null,
        "verdict": report.after?.json(bound: maxKl) ?? .null,
      ])
    } else {
      Terminal.print(
        "wrote \(report.output): \(report.parameters) scales and norms after step \(report.step) of "
          + "\(steps), \(Terminal.number(seconds, 1)) s; peak memory \(Terminal.bytes(peak))")
      if report.hasDiverged {
        Terminal.note("learning diverged later: a lower --rate may gain more")
      }
      if let before = report.before, let after = report.after {
        Terminal.print(
          "KL divergence on \(after.tokens) held-out tokens\(BeginningOptions.text(beginning)): "
            + "\(Terminal.number(before.kl)) before, \(Terminal.number(after.kl)) now; perplexity "
            + "\(Terminal.number(before.perplexity)) before, \(Terminal.number(after.perplexity)) now, "
            + "source \(Terminal.number(after.sourcePerplexity))")
      }
    }
    if let maxKl, let after = report.after, !(after.kl <= maxKl) {
      Terminal.error(
        "KL divergence \(Terminal.number(after.kl)) is above the bound \(maxKl). The model was written."
      )
      throw ExitCode(Failure.boundCrossed)
    }
  }
}
