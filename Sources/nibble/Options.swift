public import ArgumentParser
import Foundation
public import NibbleEngines
import NibbleFormats
public import NibbleModel
import NibbleQuantize
import NibbleTensor

struct ComputeOptions: ParsableArguments {
  @Option(help: "Threads; results do not depend on it. Default: one a processor.")
  var threads: Int?

  @Option(
    help: """
      Arithmetic of float products: f32, bf16, or auto (bf16 when the weights are bf16, a recipe \
      calibrates or a quantized model answers, and the processor multiplies bf16; else f32).
      """)
  var precision = "auto"

  func validate() throws {
    guard ["f32", "bf16", "auto"].contains(precision) else {
      throw ValidationError("--precision is \(precision); use f32, bf16 or auto.")
    }
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads); use 1 to 1024.")
    }
  }

  /// The options as given, for another process.
  var arguments: [String] {
    (threads.map { ["--threads", "\($0)"] } ?? []) + ["--precision", precision]
  }

  /// - Parameters:
  ///   - calibrates: whether the model runs for statistics, for which bf16 is exact enough.
  ///   - runs: whether the model generates answers and is not measured; bf16 is then exact enough
  ///     with quantized weights.
  func compute(
    for checkpoint: Checkpoint, calibrates: Bool = false, runs: Bool = false
  ) -> Compute {
    let stored =
      checkpoint.config["torch_dtype"]?.string ?? checkpoint.config["dtype"]?.string ?? ""
    let isQuantized = (try? checkpoint.quantizationMethod()) != nil
    let suits = calibrates || stored == "bfloat16" || runs && isQuantized
    let auto: Precision = suits && Compute.tiles != .none ? .bf16 : .f32
    return Compute(threads: threads, precision: Precision(rawValue: precision) ?? auto)
  }
}

/// Exceptions to the check of a model's config and tensors.
struct ConfigOptions: ParsableArguments {
  @Option(
    help: """
      A key of config.json, or the end of a tensor's name, that changes nothing in what the model \
      computes although Nibble does not know it. May be given again.
      """)
  var ignoreKey: [String] = []

  /// The options as given, for another process.
  var arguments: [String] { Self.arguments(ignoreKey) }

  /// Those of the options that match something in another model.
  func arguments(for other: Checkpoint) -> [String] { Self.arguments(names(in: other)) }

  /// Opens a model to change it.
  func open(_ path: String) throws -> Checkpoint {
    try Checkpoint(path: path).ignoring(ignoreKey)
  }

  /// Opens a model to run it.
  func openLoadable(_ path: String) throws -> Checkpoint {
    try LoadedModel.checkpoint(at: path).ignoring(ignoreKey)
  }

  /// Opens a second model to run beside the one that the options are for.
  func openOther(_ path: String) throws -> Checkpoint {
    let other = try LoadedModel.checkpoint(at: path)
    return try other.ignoring(names(in: other))
  }

  private func names(in other: Checkpoint) -> [String] {
    ignoreKey.filter { (try? other.ignoring([$0])) != nil }
  }

  private static func arguments(_ names: [String]) -> [String] {
    names.flatMap { ["--ignore-key", $0] }
  }
}

/// A model to be quantized.
struct SourceOptions: ParsableArguments {
  @OptionGroup var config: ConfigOptions
  @Flag(
    help: """
      Take a model that is quantized already (compressed-tensors, awq, gptq, mlx, fp8): work on the values \
      that its codes stand for. What the first quantization lost stays lost, and the result is measured \
      against it.
      """)
  var requantize = false

  func open(_ path: String) throws -> Checkpoint {
    let checkpoint = try config.open(path)
    return requantize ? try LoadedModel.decoded(checkpoint) : checkpoint
  }
}

extension EngineFormat: ExpressibleByArgument {
  public init?(argument: String) {
    guard let format = Self.written.first(where: { $0.name == argument }) else { return nil }
    self = format
  }

  public var defaultValueDescription: String { name }
  public static var allValueStrings: [String] { written.map(\.name) }
}
extension KeyValueFormat: ExpressibleByArgument {}
extension Recipe.ExpertTokens: ExpressibleByArgument {}

struct FormatOptions: ParsableArguments {
  @Option(
    help: """
      Format to write: compressed-tensors (vLLM, transformers), awq (int4 groups with zero points: \
      vLLM, lmdeploy), fp8 (vLLM), gptq (int4 and int8: vLLM, transformers, lmdeploy), mlx (symmetric \
      integers and mxfp4: mlx-lm) or ascend (MindIE, vllm-ascend).
      """)
  var format: EngineFormat?

  @Option(name: .customLong("for"), help: "Engine to write for: vllm, transformers or ascend.")
  var engine: Engine?

  /// The requested format; else the engine's, or the one for sparse codes.
  func exporter(for recipe: Recipe) -> any Exporter {
    let isAscend = engine == .ascend || engine == nil && recipe.isSparse
    return (format ?? (isAscend ? .ascend : .compressedTensors)).exporter
  }

  func validate() throws {
    guard engine != .ascend || format ?? .ascend == .ascend else {
      throw ValidationError("--for ascend reads the format ascend; leave --format out.")
    }
    guard format != .ascend || engine ?? .ascend == .ascend else {
      throw ValidationError("--format ascend is read by ascend alone; use --for ascend.")
    }
  }
}

/// Engines that a model can be written for.
enum Engine: String, ExpressibleByArgument, CaseIterable {
  case vllm
  case transformers
  case ascend
}

struct RecipeOptions: ParsableArguments {
  @Option(
    name: .shortAndLong,
    help: """
      What to do: a recipe file (.yaml), or one of \
      \(Recipe.presets.map { "\($0.name) (\($0.summary))" }.joined(separator: "; ")).
      """)
  var recipe: String

  @Option(help: "Inputs that share a scale, for w4a16 and w8a16. Default for w4a16: 128.")
  var group: Int?

  @Flag(help: "Give each group a zero point, for w4a16 and w8a16.")
  var asymmetric = false

  @Option(
    help: """
      What shares a weight scale: tensor, channel (an output), or block (128 x 128, fp8 only; its \
      activations then have a scale for each 128 inputs of a token).
      """)
  var per: ScaleSharing?

  @Option(
    help: """
      Calibrate scales for a cache of keys and values in fp8 (one a block), int8 or int4 (one a key \
      head).
      """)
  var kv: KeyValueFormat?

  @Option(
    help: """
      Also write the files that old engines read scales from, for N tensor-parallel ranks: \
      kv_cache_scales.json with --kv fp8 (vLLM up to 0.6), layers.L.past_kv_scale.R.weight with \
      --kv int8 (lmdeploy up to 0.3).
      """)
  var kvRanks: Int?

  @Option(
    help: """
      Calibration tokens that each expert learns from: routed (those that its router sends to it; the \
      default) or all.
      """)
  var expertTokens: Recipe.ExpertTokens?

  @Flag(
    help: """
      Quantize the head too, to eight bits with one scale per channel; a head that is the embedding gets \
      weights of its own. It stays float otherwise.
      """)
  var quantizeHead = false

  @OptionGroup var sparse: SparseOptions

  @Option(
    help: "Largest KL divergence from the source, nats a token; above it the exit status is 2.")
  var maxKl: Double?

  private static func isFile(_ name: String) -> Bool {
    name.hasSuffix(".yaml") || name.hasSuffix(".yml")
  }

  /// The recipe of a preset or a file, without options applied.
  static func recipe(named name: String) throws -> Recipe {
    isFile(name) ? try Recipe(path: name) : try Recipe.preset(name)
  }

  func resolve() throws -> Recipe {
    let isFile = Self.isFile(recipe)
    guard !isFile || group == nil && !asymmetric && per == nil else {
      throw ValidationError(
        "--group, --asymmetric and --per change a preset; write them in the file.")
    }
    var recipe =
      isFile
      ? try Recipe(path: recipe)
      : try Recipe.preset(recipe, group: group, symmetric: asymmetric ? false : nil)
    if let per { try per.apply(to: &recipe) }
    if quantizeHead { recipe.quantizesHead = true }
    try sparse.apply(to: &recipe)
    if let kv { recipe.cache = KeyValueScheme(kv) }
    if let kvRanks {
      guard recipe.cache != nil else {
        throw ValidationError("--kv-ranks writes the scales of a cache; give --kv fp8 or int8.")
      }
      recipe.cache?.ranks = kvRanks
    }
    if let expertTokens { recipe.expertTokens = expertTokens }
    if let maxKl { recipe.maxKL = maxKl }
    return recipe
  }

  func validate() throws {
    guard per == nil || group == nil else {
      throw ValidationError("--per and --group both say what shares a scale; give one of them.")
    }
    guard per != .tensor || !asymmetric else {
      throw ValidationError("--asymmetric needs a scale per channel or group, not --per tensor.")
    }
    if let kvRanks, !(1...1024).contains(kvRanks) {
      throw ValidationError("--kv-ranks is \(kvRanks); use 1 to 1024.")
    }
    if let maxKl, !(maxKl >= 0) { throw ValidationError("--max-kl is \(maxKl); use 0 or more.") }
  }
}

/// The values that share a weight scale, as an option.
enum ScaleSharing: String, ExpressibleByArgument, CaseIterable {
  case tensor
  case channel
  case block

  func apply(to recipe: inout Recipe) throws(QuantizeError) {
    switch self {
    case .tensor: recipe.scheme.weights.granularity = .tensor
    case .channel: recipe.scheme.weights.granularity = .channel
    case .block:
      guard recipe.scheme.weights.format == .e4m3 else {
        throw .recipeOption(
          recipe: recipe.name, option: "--per block",
          reason: "engines read blocks of fp8 weights only; use --recipe fp8")
      }
      recipe.scheme.weights.granularity = .block(rows: 128, columns: 128)
      if recipe.scheme.activations != nil {
        recipe.scheme.activations = .dynamicPerGroup(.e4m3, 128)
      }
    }
  }
}

/// The held-out text of a verdict.
struct VerdictOptions: ParsableArguments {
  @Option(help: "Held-out text of the verdict: a file or builtin.")
  var verdictText = "builtin"

  @Option(help: "Windows of held-out text, spread over it.")
  var verdictWindows = 4

  @Option(help: "Tokens in a window. Default: 256, or the model's context where that is less.")
  var verdictWindow: Int?

  func validate() throws {
    guard (1...4096).contains(verdictWindows) else {
      throw ValidationError("--verdict-windows is \(verdictWindows); use 1 to 4096.")
    }
    if let verdictWindow, !(2...65_536).contains(verdictWindow) {
      throw ValidationError("--verdict-window is \(verdictWindow); use 2 to 65536.")
    }
  }

  /// Lengths of the windows, known before any text is read.
  func windowSizes(_ limit: ContextLimit) -> [Int] {
    Array(
      repeating: verdictWindow ?? max(2, min(256, limit.context ?? 256)), count: verdictWindows)
  }
}

struct MeasureOptions: ParsableArguments {
  @Option(
    help: """
      What nibble calibrate saw of this model, instead of text. GPTQ learns from text all the same.
      """)
  var statistics: String?

  @OptionGroup var verdict: VerdictOptions

  @Flag(
    help: """
      Exit with status 0 although nothing was measured, as with a family that Nibble does not run; the \
      status is 2 otherwise.
      """)
  var allowUnmeasured = false

  @Option(
    help: "Most memory the run may use, such as 2GB; refused before the work when it cannot do.")
  var memory: String?

  @Option(help: "Largest file to write, such as 5GB.")
  var shardSize = "5GB"

  func validate() throws {
    _ = try budget()
    _ = try shardBytes()
  }

  /// The text to calibrate on: the requested one, or the built-in one when the recipe needs
  /// calibration.
  func calibrationSource(_ options: CalibrationOptions, for recipe: Recipe) throws -> String? {
    guard statistics == nil || recipe.needsCalibration || !recipe.candidates.isEmpty else {
      throw ValidationError("--statistics: recipe \(recipe.name) learns nothing from them.")
    }
    let learns = statistics == nil ? recipe.needsCalibration : recipe.needsText
    guard learns || options.calibrate != nil || !options.choosesWindows else {
      throw ValidationError(
        "--samples, --sample-length and --seed: recipe \(recipe.name) reads no text without "
          + "--calibrate.")
    }
    if !learns, let made = options.calibrate, CalibrationOptions.made.contains(made) {
      throw ValidationError(
        "--calibrate \(made): recipe \(recipe.name) learns nothing from text, so none is made.")
    }
    return options.calibrate ?? (learns ? "builtin" : nil)
  }

  /// Lengths of the windows that will run through the blocks, known before any text is read.
  func windowSizes(
    _ options: CalibrationOptions, for recipe: Recipe, _ limit: ContextLimit
  ) throws -> WindowSizes {
    WindowSizes(
      calibration: try calibrationSource(options, for: recipe) == nil
        ? [] : options.windowSizes(limit.context),
      heldOut: verdict.windowSizes(limit))
  }

  func budget() throws -> Int? { try memory.map { try ByteSize.bytes($0, "--memory") } }

  func shardBytes() throws -> Int { try ByteSize.bytes(shardSize, "--shard-size") }
}
