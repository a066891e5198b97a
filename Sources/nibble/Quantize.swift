import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct Quantize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Quantize a model, measure it against its source, write it for an engine.",
    discussion: """
      The output appears under its name when it is whole and was read back. A run that was \
      interrupted or killed continues when the same command is given again.
      """)

  @Argument(help: "A Hugging Face folder or a .gguf file.")
  var model: String
  @Option(name: .shortAndLong, help: "Folder to write: new, empty, or of an unfinished run.")
  var output: String?
  @OptionGroup var recipe: RecipeOptions
  @OptionGroup var format: FormatOptions
  @OptionGroup var calibration: CalibrationOptions
  @OptionGroup var measure: MeasureOptions
  @OptionGroup var beginning: BeginningOptions
  @OptionGroup var sensitivity: SensitivityText
  @OptionGroup var source: SourceOptions
  @OptionGroup var compute: ComputeOptions
  @Flag(help: "Print sizes, peak memory and refusals, then stop.")
  var dryRun = false
  @Flag(help: "End with one JSON object on standard output.")
  var json = false
  @Option(help: .hidden)
  var spillSeconds = 15.0

  func validate() throws {
    guard dryRun || output != nil else { throw ValidationError("-o OUT is missing.") }
    guard spillSeconds >= 0, spillSeconds < 1e9 else {
      throw ValidationError("--spill-seconds is \(spillSeconds); use 0 or more.")
    }
  }

  func run() throws {
    let clock = ContinuousClock()
    let start = clock.now
    let checkpoint = try source.open(model)
    var files = try CompanionFiles(of: checkpoint)
    if let output, !dryRun {
      // Checked before the work.
      try OutputPath.checked(output, source: model)
      try files.check()
    }
    let recipe = try chosenRecipe(checkpoint, &files)
    func plan(_ windows: WindowSizes) throws -> Plan {
      try Plan(
        checkpoint, recipe: recipe, exporter: format.exporter(for: recipe),
        shardSize: measure.shardBytes(), windows: windows, budget: measure.budget())
    }
    let first = try plan(
      measure.windowSizes(calibration, for: recipe, ContextLimit(of: checkpoint)))
    guard let output, !dryRun else { return try PlanText(first, files).print(json: json) }
    guard first.refusals.isEmpty else { throw QuantizeError.refused(first.refusals) }
    try files.requireSpace(
      for: first, at: output, written: OutputPath.unfinishedBytes(of: output))
    for file in try checkpoint.companionsOfGGUF() { files.add(file.name, file.text) }
    let computing = compute.compute(for: checkpoint, calibrates: recipe.needsCalibration)
    let text = try runWindows(checkpoint, recipe, first, computing)
    let windows = text?.windows ?? QuantizeRun.Windows()
    let final = try plan(windows.sizes)
    Terminal.note(
      "\(recipe.name): \(final.recipe.schemeText); \(final.layers.count) layers, "
        + "\(Terminal.bytes(final.sourceBytes)) -> \(Terminal.bytes(final.outputBytes)), memory at most "
        + "about \(Terminal.bytes(final.memory.total))")
    for note in final.notes { Terminal.note(note) }
    for file in files.dropped { Terminal.note("not copied: \(file.name) (\(file.reason))") }
    if let error = final.familyError { Terminal.note("verdict on weights alone: \(error)") }
    Interrupt.watch()
    let quantize = QuantizeRun(
      checkpoint, final, windows: windows,
      statistics: try measure.statistics.map { try StatisticsFile(path: $0) }, files: files,
      on: computing,
      spillInterval: .seconds(spillSeconds))
    let report = try quantize.run(
      to: output, progress: { show($0, since: start) }, shouldStop: { Interrupt.isRequested })
    let seconds = (clock.now - start) / .seconds(1)
    if Terminal.isInteractive { Terminal.note("") }
    try finish(report, final, text?.beginning ?? [], seconds: seconds)
  }

  /// The windows that run through the blocks; nil if the family cannot be run.
  private func runWindows(
    _ checkpoint: Checkpoint, _ recipe: Recipe, _ plan: Plan, _ compute: Compute
  ) throws -> RunWindows? {
    let source = try measure.calibrationSource(calibration, for: recipe)
    guard let decoder = plan.decoder else {
      guard source == nil else {
        throw QuantizeError.unmeasurable(
          "calibration needs a model that can run: \(plan.familyError.map { "\($0)" } ?? "")")
      }
      return nil
    }
    return try RunWindows(
      measure.verdict, calibration, beginning, source, checkpoint, decoder, compute)
  }

  /// The recipe, with the layers of --keep-float left float and the formats of candidates chosen.
  private func chosenRecipe(
    _ checkpoint: Checkpoint, _ files: inout CompanionFiles
  ) throws -> Recipe {
    let (keepFloat, disabled) = (recipe.sparse.measuredKeepFloat, recipe.sparse.disabledLayers)
    let loudness: InputLoudness = recipe.sparse.lowbit ? .peak : .spread
    var recipe = try recipe.resolve()
    if let disabled {
      guard let statistics = measure.statistics else {
        throw ValidationError(
          "--disable-level needs --statistics FILE, which nibble calibrate writes.")
      }
      let paths = try StatisticsFile(path: statistics).loudestLinears(
        disabled, by: loudness, of: checkpoint)
      for path in paths { Terminal.note("stays float: \(path)") }
      recipe = recipe.keeping(paths)
    }
    if recipe.isUndecided {
      let choice = try formatChoice(
        checkpoint, recipe, format.exporter(for: recipe), measure.statistics,
        compute.compute(for: checkpoint))
      files.add("nibble_formats.json", choice.json.text(pretty: true) + "\n")
      recipe = recipe.choosing(choice)
    }
    guard let keepFloat else { return recipe }
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: format.exporter(for: recipe), windows: WindowSizes())
    guard plan.refusals.isEmpty else { throw QuantizeError.refused(plan.refusals) }
    let found = try sensitivity.measure(
      checkpoint, plan, beginning, compute.compute(for: checkpoint))
    let kept = keepFloat.choose(found, maxKL: recipe.maxKL)
    for group in kept {
      Terminal.note(
        "stays float: \(SensitivityTable.name(group.paths)) (KL alone \(Terminal.number(group.kl, 5)))"
      )
    }
    Terminal.note(
      "kept float: \(Terminal.number(100 * found.share(of: kept), 1)) % of the linear layers' weights"
    )
    files.add("nibble_sensitivity.json", found.json.text(pretty: true) + "\n")
    return recipe.keeping(kept.flatMap(\.paths))
  }

  private func show(_ progress: QuantizeRun.Progress, since start: ContinuousClock.Instant) {
    var line = "[\(progress.done)/\(progress.total)] \(progress.unit)"
    if progress.resumed { return Terminal.progress(line + ": finished earlier") }
    if let error = progress.runningError {
      line += String(format: "  error %.4f", error)
    }
    let elapsed = (ContinuousClock.now - start) / .seconds(1)
    let left = elapsed / Double(progress.done) * Double(progress.total - progress.done)
    line += String(format: "  %.0f s left  ", left)
    line += Terminal.bytes(ProcessMemory.peakResidentBytes)
    Terminal.progress(line)
  }

  private func finish(
    _ report: QuantizeRun.Report, _ plan: Plan, _ beginning: [Int], seconds: Double
  ) throws {
    let bound = plan.recipe.maxKL
    let peak = ProcessMemory.peakResidentBytes
    if json {
      var verdict = report.verdict?.json(bound: bound)
      if !beginning.isEmpty { verdict?.set("windows", "with BOS before each window") }
      Terminal.print([
        "output": .string(report.output), "bytes": JSON(report.bytes), "seconds": .number(seconds),
        "measuring_seconds": .number(report.measuring / .seconds(1)),
        "peak_rss_bytes": JSON(peak),
        "verdict": verdict ?? .null,
        "experts": report.experts?.json ?? .null,
      ])
    } else {
      Terminal.print(
        "wrote \(report.output): \(Terminal.bytes(report.bytes)) in \(Terminal.number(seconds, 1)) s, of "
          + "which \(Terminal.number(report.measuring / .seconds(1), 1)) s to measure; peak memory "
          + Terminal.bytes(peak))
      if let worst = report.layers.min(by: {
        ($0.signalToNoise ?? .infinity) < ($1.signalToNoise ?? .infinity)
      }),
        let noise = worst.signalToNoise
      {
        Terminal.print(
          "worst layer: \(worst.path), \(Terminal.number(noise, 1)) dB signal to noise")
      }
      if let experts = report.experts { Terminal.print(Self.text(experts)) }
      if let verdict = report.verdict {
        Terminal.print(Self.text(verdict, beginning, bound: bound))
      }
    }
    guard let verdict = report.verdict else {
      guard !measure.allowUnmeasured else { return }
      Terminal.error(
        "the model was written, and nothing was measured: Nibble does not run this family. Compare it "
          + "with its source in an engine that does; --allow-unmeasured accepts it as it is.")
      throw ExitCode(Failure.boundCrossed)
    }
    if !(verdict.kl <= bound) {
      Terminal.error(
        "KL divergence \(Terminal.number(verdict.kl)) is above the bound \(bound). The model was written; "
          + "use a finer recipe, or --max-kl to accept it.")
      throw ExitCode(Failure.boundCrossed)
    }
  }

  private static func text(_ experts: ExpertCoverage) -> String {
    let starved = experts.starved
    let text =
      "experts: \(experts.least) calibration tokens or more reached each of \(experts.experts), "
      + "\(Terminal.number(experts.mean, 0)) on average"
    guard !starved.isEmpty else { return text }
    return text
      + "\n  no token reached \(starved.count) of them (block.expert \(starved.prefix(8).joined(separator: ", "))"
      + "\(starved.count > 8 ? " and more" : "")): their weights were rounded by themselves. More text, or "
      + "--expert-tokens all, reaches them."
  }

  private static func text(_ verdict: Verdict, _ beginning: [Int], bound: Double) -> String {
    let windows = BeginningOptions.text(beginning)
    return """
      verdict on \(verdict.tokens) held-out tokens\(windows), against the source:
        KL divergence  \(Terminal.number(verdict.kl)) nats a token (bound \(bound))
        top-1 agreement \(Terminal.number(100 * verdict.top1, 1)) %
        perplexity     \(Terminal.number(verdict.perplexity)) (source \(Terminal.number(verdict.sourcePerplexity)))
      """
        + (verdict.divergence.map {
          "\n" + DivergenceText($0).lines(indent: "  ", width: 15).joined(separator: "\n")
        } ?? "")
  }
}
