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

  /// The model, and the arithmetic that suits it.
  func load(_ path: String, _ compute: ComputeOptions) throws -> (LoadedModel, Compute) {
    guard let quantize else {
      let loaded = try LoadedModel(path: path)
      return (loaded, compute.compute(for: loaded.checkpoint))
    }
    let recipe = try RecipeOptions.recipe(named: quantize)
    let computing = compute.compute(for: try Checkpoint(path: path))
    return (try LoadedModel(path: path, rounding: recipe, on: computing), computing)
  }
}
