import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct SearchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "search",
    abstract: "Find the schemes, layer by layer, that lose least within a size.",
    discussion: """
      Measures what each group of layers costs in each scheme, as sensitivity does, and chooses one for \
      each group, or float, so that the sum of costs is least within --size; or the smallest model whose \
      sum is within --max-kl. The choice is a recipe file, for quantize --recipe.
      """)

  @Argument(help: "A Hugging Face folder or a .gguf file.")
  var model: String
  @Option(help: "Largest size of the weight files, such as 150MB.")
  var size: String?
  @Option(help: "Largest estimated KL divergence from the source, nats a token.")
  var maxKl: Double?
  @Option(
    help: """
      A recipe file whose candidates are the schemes to choose from. Default: int8 per channel, int4 in \
      groups of 128, and int4 in groups of 64 and 32, with zero points unless it is for transformers, which does \
      not load them; float activations.
      """)
  var candidates: String?
  @Option(
    name: .customLong("for"), help: "Engine to write for: vllm, the default, or transformers.")
  var engine: Engine?
  @Option(name: .shortAndLong, help: "Recipe file to write; it must not exist.")
  var output: String?
  @Option(help: "Sizes in the table.")
  var points = 12
  @OptionGroup var text: SensitivityText
  @OptionGroup var beginning: BeginningOptions
  @OptionGroup var source: SourceOptions
  @OptionGroup var compute: ComputeOptions
  @Flag(help: "Print JSON, with every measurement.")
  var json = false

  func validate() throws {
    guard engine != .ascend else {
      throw ValidationError("--for ascend: its formats hold one scheme; use vllm or transformers.")
    }
    if let maxKl, !(maxKl >= 0) { throw ValidationError("--max-kl is \(maxKl); use 0 or more.") }
    guard (2...1000).contains(points) else {
      throw ValidationError("--points is \(points); use 2 to 1000.")
    }
    guard output == nil || size != nil || maxKl != nil else {
      throw ValidationError("-o writes one choice: give --size, --max-kl or both.")
    }
    _ = try bytes()
  }

  private func bytes() throws -> Int? { try size.map { try ByteSize.bytes($0, "--size") } }

  /// What the recipe does to a layer, whatever its scheme: as the preset w4a16-best.
  private static let steps = ["{gptq: {align: {residual: false}}}"]

  /// transformers 5.23 does not load int4 with zero points.
  private var schemes: [LinearScheme] {
    func int4(_ symmetric: Bool, _ group: Int) -> WeightScheme {
      WeightScheme(format: .int(bits: 4, symmetric: symmetric), granularity: .group(group))
    }
    let isSymmetric = engine == .transformers
    let int8 = WeightScheme(format: .int(bits: 8, symmetric: true), granularity: .channel)
    return [int8, int4(true, 128), int4(isSymmetric, 64), int4(isSymmetric, 32)].map {
      LinearScheme(weights: $0)
    }
  }

  func run() throws {
    let file = try output.map { try OutputFile($0) }
    let checkpoint = try source.open(model)
    let given = try candidates.map { path in
      let found = try Recipe(path: path).candidates
      guard !found.isEmpty else {
        throw QuantizeError.recipeFile(path: path, reason: "it has no candidates")
      }
      return found
    }
    Interrupt.watch()
    let search = try SchemeSearch(
      checkpoint, among: given ?? schemes, base: base, exporter: CompressedTensors(),
      windows: text.windows(checkpoint, beginning), on: compute.compute(for: checkpoint),
      progress: { Terminal.progress("[\($0)/\($1)] groups of layers measured") },
      shouldStop: { Interrupt.isRequested })
    if Terminal.isInteractive { Terminal.note("") }
    let front = try search.front(points: points)
    let choice = try choice(search, front)
    try show(search, front, choice)
    guard let choice else {
      Terminal.error(Self.impossible(front, size: try bytes(), maxKl: maxKl))
      throw ExitCode(Failure.boundCrossed)
    }
    if var file, size != nil || maxKl != nil {
      try Data(choice.recipe.fileText(steps: Self.steps).utf8).write(
        to: URL(fileURLWithPath: file.partial))
      try file.publish()
    }
  }

  private var base: Recipe {
    Recipe(
      name: "searched", summary: "found by nibble search", scheme: schemes[0],
      maxKL: maxKl ?? 0.3)
  }

  /// The choice within the bounds; with none given, the one of the least divergence. Nil if there is
  /// none.
  private func choice(
    _ search: SchemeSearch, _ front: [SchemeSearch.Choice]
  ) throws -> SchemeSearch.Choice? {
    let bytes = try bytes()
    if let bytes {
      let found = try search.choice(within: bytes)
      return found.flatMap { $0.estimate <= maxKl ?? .infinity ? $0 : nil }
    }
    if let maxKl { return try search.choice(losing: maxKl) }
    return front.last
  }

  private static func impossible(
    _ front: [SchemeSearch.Choice], size: Int?, maxKl: Double?
  ) -> String {
    var text = "not possible. The nearest are: "
    var nearest: [String] = []
    func describe(_ choice: SchemeSearch.Choice) -> String {
      "\(Terminal.bytes(choice.bytes)) with an estimated KL of \(Terminal.number(choice.estimate))"
    }
    if let size, let fitting = front.last(where: { $0.bytes <= size }) {
      nearest.append(describe(fitting))
    } else if let least = front.first {
      nearest.append(describe(least))
    }
    if let maxKl, let close = front.first(where: { $0.estimate <= maxKl }) {
      nearest.append(describe(close))
    }
    text += nearest.isEmpty ? "none" : nearest.joined(separator: ", and ")
    return text + ". Other --candidates may do."
  }

  private func show(
    _ search: SchemeSearch, _ front: [SchemeSearch.Choice], _ choice: SchemeSearch.Choice?
  ) throws {
    if json {
      var json = search.json
      json.set("front", .array(front.map { self.json($0, search) }))
      json.set("choice", choice.map { self.json($0, search) } ?? .null)
      json.set("peak_rss_bytes", JSON(ProcessMemory.peakResidentBytes))
      return Terminal.print(json)
    }
    var lines = ["      size  estimated KL  layers in each scheme"]
    for row in front { lines.append(line(row, search)) }
    if let choice, size != nil || maxKl != nil {
      lines += ["chosen:", line(choice, search)]
    }
    Terminal.write(lines.joined(separator: "\n") + "\n")
  }

  private func names(_ search: SchemeSearch) -> [String] {
    search.candidates.map { "\($0)" } + ["float"]
  }

  private func line(_ choice: SchemeSearch.Choice, _ search: SchemeSearch) -> String {
    let parts = zip(choice.layers, names(search)).filter { $0.0 > 0 }.map { "\($0) \($1)" }
    let size = Terminal.bytes(choice.bytes)
    return String(repeating: " ", count: max(0, 10 - size.count)) + size
      + String(format: "  %12.5f  ", choice.estimate) + parts.joined(separator: "; ")
  }

  private func json(_ choice: SchemeSearch.Choice, _ search: SchemeSearch) -> JSON {
    var layers = JSONObject()
    for (count, name) in zip(choice.layers, names(search)) { layers[name] = JSON(count) }
    return [
      "bytes": JSON(choice.bytes), "estimated_kl": .number(choice.estimate),
      "layers": .object(layers),
    ]
  }
}
