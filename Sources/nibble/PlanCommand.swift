import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Say what a recipe would do to a model: bytes a layer, peak memory, refusals.",
    discussion: "Reads headers only. Exit status 64 when the plan would be refused.")

  @Argument(help: "A Hugging Face folder or a .gguf file.")
  var model: String
  @OptionGroup var recipe: RecipeOptions
  @OptionGroup var format: FormatOptions
  @OptionGroup var calibration: CalibrationOptions
  @OptionGroup var measure: MeasureOptions
  @OptionGroup var source: SourceOptions
  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    guard recipe.sparse.measuredKeepFloat == nil else {
      throw ValidationError(
        "--keep-float with a share or auto measures the model, and plan reads headers only. Use "
          + "quantize --dry-run.")
    }
  }

  func run() throws {
    let checkpoint = try source.open(model)
    let recipe = try recipe.resolve()
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: format.exporter(for: recipe),
      shardSize: measure.shardBytes(),
      windows: try measure.windowSizes(calibration, for: recipe, ContextLimit(of: checkpoint)),
      budget: measure.budget())
    try PlanText(plan, try CompanionFiles(of: checkpoint)).print(json: json)
  }
}

/// A plan as text.
struct PlanText {
  let plan: Plan
  let files: CompanionFiles

  init(_ plan: Plan, _ files: CompanionFiles) {
    self.plan = plan
    self.files = files
  }

  /// - Throws: the refusals, after everything has been printed.
  func print(json: Bool) throws {
    if json { Terminal.print(self.json) } else { Terminal.write(text) }
    if !plan.refusals.isEmpty { throw QuantizeError.refused(plan.refusals) }
  }

  private var text: String {
    var lines = ["recipe \(plan.recipe.name): \(plan.recipe.schemeText)"]
    if let cache = plan.recipe.cache {
      lines.append("cache of keys and values: scales for \(cache.format.rawValue)")
    }
    lines.append("written as \(plan.exporter.name), \(plan.shards.count) file(s)")
    lines.append("")
    for (shape, layers) in groups {
      let bytes = layers.reduce(0) { $0 + $1.outputBytes }
      let source = layers.reduce(0) { $0 + $1.sourceBytes }
      lines.append(
        "  \(layers.count) x \(shape): \(Terminal.bytes(source)) -> \(Terminal.bytes(bytes))")
    }
    for note in plan.notes { lines.append("  note: \(note)") }
    for kept in plan.keptFloat { lines.append("  float: \(kept.path) (\(kept.reason))") }
    for file in files.dropped { lines.append("  not copied: \(file.name) (\(file.reason))") }
    lines.append("")
    lines.append(
      "size   \(Terminal.bytes(plan.sourceBytes)) -> \(Terminal.bytes(plan.outputBytes))")
    lines.append("memory at most about \(Terminal.bytes(plan.memory.total))")
    lines.append(
      plan.familyError.map { "verdict on weights alone: \($0)" }
        ?? "verdict on held-out text; KL divergence at most \(plan.recipe.maxKL) nats a token")
    return lines.joined(separator: "\n") + "\n"
  }

  /// Layers grouped by their place in the block, in order of first appearance.
  private var groups: [(String, [Plan.Layer])] {
    var order: [String] = []
    var groups: [String: [Plan.Layer]] = [:]
    for layer in plan.layers {
      let place = layer.path.split(separator: ".").map { Int($0) == nil ? String($0) : "*" }
      let key = "\(place.joined(separator: ".")) [\(layer.outputs), \(layer.inputs)]"
      if groups[key] == nil { order.append(key) }
      groups[key, default: []].append(layer)
    }
    return order.map { ($0, groups[$0] ?? []) }
  }

  private var json: JSON {
    [
      "recipe": .string(plan.recipe.name),
      "scheme": .string(plan.recipe.schemeText),
      "format": .string(plan.exporter.name),
      "source_bytes": JSON(plan.sourceBytes),
      "bytes": JSON(plan.outputBytes),
      "peak_memory_bytes": JSON(plan.memory.total),
      "kv_cache": plan.recipe.cache.map { .string($0.format.rawValue) } ?? .null,
      "max_kl": .number(plan.recipe.maxKL),
      "layers": .array(
        plan.layers.map {
          [
            "path": .string($0.path), "outputs": JSON($0.outputs), "inputs": JSON($0.inputs),
            "scheme": .string($0.scheme.description), "source_bytes": JSON($0.sourceBytes),
            "bytes": JSON($0.outputBytes),
          ]
        }),
      "kept_float": .array(
        plan.keptFloat.map { ["path": .string($0.path), "reason": .string($0.reason)] }),
      "notes": .array(plan.notes.map { .string($0) }),
      "not_copied": .array(
        files.dropped.map { ["name": .string($0.name), "reason": .string($0.reason)] }),
      "refusals": .array(plan.refusals.map { .string($0.description) }),
    ]
  }
}
