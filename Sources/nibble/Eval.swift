import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import NibbleText

struct Eval: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Measure perplexity on a text, or accuracy on a task; against another model also KL divergence, "
      + "agreement and flips.",
    discussion: """
      A task is a file of multiple-choice items, as JSON lines such as {"context": "..", "choices": ["..", \
      ".."], "gold": 0}, or the items of HellaSwag, ARC, OpenBookQA, PIQA, WinoGrande, MMLU, BoolQ, SciQ or \
      BIG-bench as they are. Items are scored as lm-eval 0.4 scores them.
      """)

  @Argument(help: "A Hugging Face folder, float or quantized, or a .gguf file.")
  var model: String
  @Option(help: "A UTF-8 text file, or builtin for Nibble's own held-out text.")
  var text: String?
  @Option(help: "Instead of a text: a file of multiple-choice items.")
  var task: String?
  @Option(help: "With --task: a file to write each item's scores and answers to, as JSON lines.")
  var items: String?
  @Option(help: "The model to compare with, usually the source.")
  var against: String?
  @Option(
    help: """
      Tokens in a window. Default: 2048, or the model's context where that is less. With --task: the most \
      that the model reads at once. Default: its context.
      """)
  var window: Int?
  @Option(help: "Windows at most. Default: all.")
  var windows: Int?
  @Option(help: "Windows to pass over at the start.")
  var skip = 0
  @Option(
    help: """
      Definition of perplexity: windows (every token but a window's first) or llama.cpp (the second \
      half of each window).
      """)
  var definition = "windows"
  @Option(help: "With --against: above this KL divergence, nats a token, the exit status is 2.")
  var maxKl: Double?
  @Flag(
    help: """
      Also compare the source (of --against, or else MODEL) with itself, in another precision and with \
      each window read in two parts: smaller differences are no result. Takes two more passes.
      """)
  var noiseFloor = false
  @OptionGroup var beginning: BeginningOptions
  @OptionGroup var load: LoadOptions
  @OptionGroup var compute: ComputeOptions
  @Flag(help: "Print one JSON object.")
  var json = false

  func validate() throws {
    guard PerplexityDefinition(rawValue: definition) != nil else {
      throw ValidationError("--definition is \(definition); use windows or llama.cpp.")
    }
    if let window, !(2...1 << 20).contains(window) {
      throw ValidationError("--window is \(window); use 2 to \(1 << 20).")
    }
    if let windows, windows < 1 { throw ValidationError("--windows is \(windows); use 1 or more.") }
    guard skip >= 0 else { throw ValidationError("--skip is \(skip); use 0 or more.") }
    guard (text == nil) != (task == nil) else {
      throw ValidationError(
        text == nil
          ? "Give --text, a text file or builtin, or --task." : "Give --text or --task, not both.")
    }
    if task == nil, items != nil { throw ValidationError("--items needs --task.") }
    if task != nil,
      windows != nil || skip > 0 || noiseFloor || maxKl != nil || definition != "windows"
    {
      throw ValidationError(
        "--windows, --skip, --definition, --noise-floor and --max-kl are of a text; leave them or --task out."
      )
    }
    if maxKl != nil, against == nil { throw ValidationError("--max-kl needs --against.") }
  }

  func run() throws {
    if let task {
      try EvalTask(self, task).run()
    } else if let text {
      try evaluate(text)
    }
  }

  /// The model, the one that it is compared with, and the arithmetic.
  ///
  /// - Throws: when the vocabularies differ.
  func open() throws -> (model: LoadedModel, base: LoadedModel?, Tokenizer, Compute) {
    let (loaded, computing) = try load.load(model, compute, measures: true)
    let base = try against.map {
      try LoadedModel(load.config.openOther($0), on: computing)
    }
    let tokenizer = try loaded.tokenizer()
    if let base, base.decoder.shape.vocabulary != loaded.decoder.shape.vocabulary {
      throw ModelError.unsupported(
        "\(base.checkpoint.path) has \(base.decoder.shape.vocabulary) tokens in its vocabulary and "
          + "\(model) \(loaded.decoder.shape.vocabulary): they cannot be compared")
    }
    if let base, let other = try base.checkpoint.tokenizer(),
      let id = tokenizer.firstDifference(from: other)
    {
      throw ModelError.unsupported(
        "\(base.checkpoint.path): token \(id) is \"\(shown(other.token(id) ?? ""))\", and "
          + "\"\(shown(tokenizer.token(id) ?? ""))\" in \(model). Models with other vocabularies cannot "
          + "be compared; give the source of this one.")
    }
    return (loaded, base, tokenizer, computing)
  }

  private func evaluate(_ text: String) throws {
    let (loaded, base, tokenizer, computing) = try open()
    let tokens = tokenizer.encode(try TextSource.read(text))
    let learned = learned(from: tokens, loaded.checkpoint)
    var part = EvaluationWindows()
    part.definition = PerplexityDefinition(rawValue: definition) ?? .windows
    let beginning = try beginning.tokens(of: tokenizer)
    // The tokens before a window take up positions too.
    let length = ContextLimit(loaded.decoder.shape.context - beginning.count).length(
      window, "--window", default: 2048)
    // The built-in text is short, and a window must fit into it.
    part.length = text == "builtin" ? min(length, tokens.count) : length
    part.count = windows
    part.skip = skip
    part.beginning = beginning
    part.beginningOfText = beginning.first
    let clock = ContinuousClock()
    let start = clock.now
    let kinds =
      text == "builtin"
      ? BuiltinText.heldOutKinds(
        of: try part.ranges(of: tokens.count), beginning: part.before.count, with: tokenizer) : nil
    let evaluation = try Evaluation(
      loaded.decoder, against: base?.decoder, tokens: tokens, windows: part, kinds: kinds,
      keeping: load.kv ?? .f32, scales: loaded.cacheScales, on: computing
    ) { done, total, perplexity in
      let elapsed = (clock.now - start) / .seconds(1)
      let left = elapsed / Double(done) * Double(total - done)
      Terminal.progress(
        "window \(done) of \(total)  perplexity \(Terminal.number(perplexity))  \(Terminal.number(left, 0)) s left"
      )
    }
    if Terminal.isInteractive { Terminal.note("") }
    let floor =
      try noiseFloor
      ? NoiseFloor(base?.decoder ?? loaded.decoder, tokens, part, computing) : nil
    let seconds = (clock.now - start) / .seconds(1)
    if json {
      var object = object(evaluation, tokens: tokens.count, seconds: seconds, computing)
      object.set("noise_floor", floor?.json)
      object.set("calibration_windows_in_text", JSON(learned))
      Terminal.print(object)
    } else {
      Terminal.print(summary(evaluation, floor, seconds: seconds, computing))
    }
    if let maxKl, let comparison = evaluation.comparison, !(comparison.kl <= maxKl) {
      Terminal.error("KL divergence \(Terminal.number(comparison.kl)) is above the bound \(maxKl).")
      throw ExitCode(Failure.boundCrossed)
    }
  }

  /// Number of the model's calibration windows that occur in the text; says so if there are any.
  private func learned(from tokens: [Int], _ checkpoint: Checkpoint) -> Int {
    let path = checkpoint.path + "/" + CompanionFiles.reportName
    let marks = CalibrationMarks(report: (try? Checkpoint.json(path)) ?? .null)
    let count = marks.occurrences(in: tokens)
    if count > 0 {
      Terminal.note(
        "\(count) of the \(marks.count) windows that \(model) was calibrated on occur in this text: its "
          + "figures are better than those on other texts. Evaluate on a text it has not seen.")
    }
    return count
  }

  private func object(
    _ evaluation: Evaluation, tokens: Int, seconds: Double, _ compute: Compute
  ) -> JSON {
    var object: JSON = [
      "perplexity": .number(evaluation.perplexity),
      "tokens": JSON(tokens),
      "scored_tokens": JSON(evaluation.scoredTokens),
      "window": JSON(evaluation.windowLength),
      "windows": JSON(evaluation.windows),
      "skipped": JSON(evaluation.skipped),
      "seconds": .number(seconds),
      "precision": .string(compute.precision.rawValue),
      "definition": .string(explanation(evaluation)),
    ]
    if let comparison = evaluation.comparison {
      object.set("kl", .number(comparison.kl))
      object.set("top1", .number(comparison.top1))
      object.set("base_perplexity", .number(comparison.basePerplexity))
      object.set("divergence", comparison.divergence?.json)
    }
    return object
  }

  private func summary(
    _ evaluation: Evaluation, _ floor: NoiseFloor?, seconds: Double, _ compute: Compute
  ) -> String {
    var lines = ["perplexity      \(Terminal.number(evaluation.perplexity))"]
    if let comparison = evaluation.comparison {
      lines += [
        "of the base     \(Terminal.number(comparison.basePerplexity))",
        "KL divergence   \(Terminal.number(comparison.kl, 5)) nats a token",
        "top-1 agreement \(Terminal.number(100 * comparison.top1, 2)) %",
      ]
      lines += comparison.divergence.map { DivergenceText($0).lines(width: 16) } ?? []
    }
    lines += floor.map { $0.lines(below: evaluation.comparison?.kl) } ?? []
    lines.append(
      "over \(evaluation.scoredTokens) tokens in \(evaluation.windows) windows of "
        + "\(evaluation.windowLength), \(compute.precision.rawValue), \(Terminal.number(seconds, 1)) s"
    )
    lines.append("(\(explanation(evaluation)))")
    return lines.joined(separator: "\n")
  }

  private func explanation(_ evaluation: Evaluation) -> String {
    evaluation.definition.explanation(beginning: evaluation.beginning)
  }
}
