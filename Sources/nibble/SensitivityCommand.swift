import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct SensitivityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sensitivity",
    abstract: "Say which layers a recipe costs most, and what keeping them float would buy.",
    discussion: """
      Rounds the layers of each input by themselves, to nearest, and measures the KL divergence from \
      the source. quantize --keep-float acts on the same numbers.
      """)

  @Argument(help: "A Hugging Face folder or a .gguf file.")
  var model: String
  @OptionGroup var recipe: RecipeOptions
  @OptionGroup var format: FormatOptions
  @OptionGroup var text: SensitivityText
  @OptionGroup var beginning: BeginningOptions
  @OptionGroup var source: SourceOptions
  @OptionGroup var compute: ComputeOptions
  @Option(help: "How many of the costliest to print.")
  var top = 20
  @Flag(help: "Print JSON, with every layer.")
  var json = false

  func run() throws {
    let checkpoint = try source.open(model)
    var recipe = try recipe.resolve()
    let computing = compute.compute(for: checkpoint)
    if recipe.isUndecided {
      let exporter = format.exporter(for: recipe)
      recipe = recipe.choosing(try formatChoice(checkpoint, recipe, exporter, nil, computing))
    }
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: format.exporter(for: recipe), windows: WindowSizes())
    Interrupt.watch()
    let found = try text.measure(checkpoint, plan, beginning, computing)
    if json {
      var json = found.json
      json.set("peak_rss_bytes", JSON(ProcessMemory.peakResidentBytes))
      return Terminal.print(json)
    }
    Terminal.write(SensitivityTable(found).text(top: top))
  }
}

/// The text on which single layers are measured.
struct SensitivityText: ParsableArguments {
  @Option(help: "Text on which single layers are measured: a file or builtin.")
  var sensitivityText = "builtin"

  @Option(help: "Windows of that text.")
  var sensitivityWindows = 2

  @Option(help: "Tokens in a window of that text.")
  var sensitivityLength = 128

  func validate() throws {
    guard (1...1024).contains(sensitivityWindows) else {
      throw ValidationError("--sensitivity-windows is \(sensitivityWindows); use 1 to 1024.")
    }
    guard (2...4096).contains(sensitivityLength) else {
      throw ValidationError("--sensitivity-length is \(sensitivityLength); use 2 to 4096.")
    }
  }

  /// The windows of that text.
  func windows(_ checkpoint: Checkpoint, _ rule: BeginningOptions) throws -> [[Int]] {
    guard let tokenizer = try checkpoint.tokenizer() else {
      throw QuantizeError.unmeasurable("sensitivity needs a tokenizer.json beside the weights")
    }
    var sampling = CalibrationSampling()
    (sampling.windows, sampling.length) = (sensitivityWindows, sensitivityLength)
    let text = CalibrationText(
      sensitivityText == "builtin" ? BuiltinText.calibration : try TextSource.read(sensitivityText),
      path: sensitivityText)
    let beginning = try rule.tokens(of: tokenizer)
    guard sensitivityLength > beginning.count else {
      throw ValidationError(
        "--sensitivity-length \(sensitivityLength) leaves no text after \(beginning.count) tokens.")
    }
    return try sampling.cut(text, with: tokenizer, beginning: beginning).windows
  }

  func measure(
    _ checkpoint: Checkpoint, _ plan: Plan, _ rule: BeginningOptions, _ compute: Compute
  ) throws -> Sensitivity {
    let windows = try windows(checkpoint, rule)
    let found = try SensitivityRun(checkpoint, plan, windows: windows, on: compute).run(
      progress: { Terminal.progress("[\($0)/\($1)] groups of layers measured") },
      shouldStop: { Interrupt.isRequested })
    if Terminal.isInteractive { Terminal.note("") }
    return found
  }
}

/// Sensitivities as a table.
struct SensitivityTable {
  let found: Sensitivity

  init(_ found: Sensitivity) { self.found = found }

  func text(top: Int) -> String {
    var lines = ["KL alone  signal/noise  layers (rounded to nearest, \(found.tokens) tokens)"]
    for group in found.groups.prefix(top) {
      let noise = group.signalToNoise.map { String(format: "%5.1f dB", $0) } ?? "   exact"
      lines.append(
        String(format: "%8.5f  ", group.kl) + "  \(noise)    " + Self.name(group.paths))
    }
    if found.groups.count > top { lines.append("and \(found.groups.count - top) more (--top)") }
    lines.append(remedy)
    return lines.joined(separator: "\n") + "\n"
  }

  /// The smallest share of weights that halves the estimate, in one line.
  private var remedy: String {
    let kept = found.kept(maxKL: found.estimate / 2)
    let share = (1000 * found.share(of: kept)).rounded(.up) / 10
    let left = found.estimate - kept.reduce(0) { $0 + $1.kl }
    return
      "together about \(Terminal.number(found.estimate)); nibble quantize with the same options "
      + "and --keep-float \(share)% leaves about \(Terminal.number(left)): \(kept.count) of "
      + "\(found.groups.count) groups stay float"
  }

  /// `model.layers.3.self_attn.q_proj, k_proj, v_proj`.
  static func name(_ paths: [String]) -> String {
    let rest = paths.dropFirst().compactMap { $0.split(separator: ".").last.map(String.init) }
    return ([paths.first ?? ""] + rest).joined(separator: ", ")
  }
}

/// A value of `--keep-float`.
enum KeepFloat: ExpressibleByArgument, Hashable {
  /// Share of the weights of the linear layers, 0...1.
  case share(Double)
  /// As many layers as needed to keep the estimate within the recipe's bound.
  case auto

  /// Layers by their paths; no measurement.
  case pattern(String)

  init?(argument: String) {
    if argument == "auto" {
      self = .auto
    } else if argument.hasSuffix("%") {
      guard let percent = Double(argument.dropLast()), (0...100).contains(percent) else {
        return nil
      }
      self = .share(percent / 100)
    } else {
      self = .pattern(argument)
    }
  }

  var pattern: String? {
    if case .pattern(let pattern) = self { pattern } else { nil }
  }

  func choose(_ found: Sensitivity, maxKL: Double) -> [Sensitivity.Group] {
    switch self {
    case .share(let share): found.kept(share: share)
    case .auto: found.kept(maxKL: maxKL)
    case .pattern: []
    }
  }
}
