public import ArgumentParser
import NibbleEngines
public import NibbleModel
import NibbleQuantize
public import NibbleTensor

/// Options for loading a model to run it.
struct LoadOptions: ParsableArguments {
  @Option(
    help: """
      Round a float model as it is loaded, by a recipe that learns nothing, such as fp8 or w8a8; nothing \
      is written.
      """)
  var quantize: String?

  @Flag(
    help: """
      Round the head to int8 as the model is loaded, whatever the scheme of its layers; a head that is \
      quantized already stays.
      """)
  var quantizeHead = false

  @Flag(
    help: """
      Keep the weights of a W8A8SC model compressed in memory; each product decompresses them, which \
      takes far longer.
      """)
  var compressedWeights = false

  @Option(
    help: """
      What integer weights multiply when their scheme leaves activations float: float, or int8 in groups \
      of 32, in integers. Default: int8, but float in eval.
      """)
  var activations: FloatActivations?

  @Option(
    help: """
      How keys and values are kept: f32, f16, int8, fp8, int4 or int3; calibrated scales of the checkpoint \
      are used when they are for that format. Default: f16, but f32 in eval.
      """)
  var kv: CacheFormat?

  @OptionGroup var config: ConfigOptions

  /// The options as given, for another process.
  var arguments: [String] {
    (quantize.map { ["--quantize", $0] } ?? []) + (quantizeHead ? ["--quantize-head"] : [])
      + (compressedWeights ? ["--compressed-weights"] : [])
      + (activations.map { ["--activations", $0.rawValue] } ?? [])
      + (kv.map { ["--kv", $0.rawValue] } ?? []) + config.arguments
  }

  /// Loads the model, with the arithmetic that suits it.
  ///
  /// - Parameter measures: whether the model is being measured: activations that its scheme leaves
  ///   float are then not quantized unless requested.
  func load(
    _ path: String, _ compute: ComputeOptions, measures: Bool = false
  ) throws -> (LoadedModel, Compute) {
    var (loaded, computing) = try layers(path, compute, measures: measures)
    if quantizeHead { loaded = try loaded.withQuantizedHead(on: computing) }
    let choice = activations ?? (measures ? .float : .int8)
    return (loaded.running(floatActivations: choice), computing)
  }

  private func layers(
    _ path: String, _ compute: ComputeOptions, measures: Bool
  ) throws -> (LoadedModel, Compute) {
    let recipe = try quantize.map { try RecipeOptions.recipe(named: $0) }
    let checkpoint = try config.openLoadable(path)
    let computing = compute.compute(for: checkpoint, runs: !measures)
    let loaded =
      if let recipe {
        try LoadedModel(checkpoint, rounding: recipe, on: computing)
      } else {
        try LoadedModel(checkpoint, keepsCompressed: compressedWeights, on: computing)
      }
    if recipe != nil,
      let stack = loaded.decoder.shape.blocks.lazy.flatMap(\.stackedTensors).first
    {
      Terminal.note("\(stack) and the like stay float: experts in one tensor are not rounded")
    }
    return (loaded, computing)
  }
}

extension FloatActivations: ExpressibleByArgument {}
extension CacheFormat: ExpressibleByArgument {}
