import ArgumentParser
import NibbleExport
import NibbleModel
import NibbleQuantize
import NibbleTensor

/// How a model is loaded to run.
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

  /// The options as they were given, for another process.
  var arguments: [String] {
    (quantize.map { ["--quantize", $0] } ?? []) + (quantizeHead ? ["--quantize-head"] : [])
  }

  /// The model, and the arithmetic that suits it.
  func load(_ path: String, _ compute: ComputeOptions) throws -> (LoadedModel, Compute) {
    let (loaded, computing) = try layers(path, compute)
    return (quantizeHead ? try loaded.withQuantizedHead(on: computing) : loaded, computing)
  }

  private func layers(_ path: String, _ compute: ComputeOptions) throws -> (LoadedModel, Compute) {
    guard let quantize else {
      let loaded = try LoadedModel(path: path)
      return (loaded, compute.compute(for: loaded.checkpoint))
    }
    let recipe = try RecipeOptions.recipe(named: quantize)
    let computing = compute.compute(for: try Checkpoint(path: path))
    return (try LoadedModel(path: path, rounding: recipe, on: computing), computing)
  }
}
