public import NibbleModel
public import NibbleTensor

/// A float model whose linear layers are quantized as they are read: the result of a recipe without
/// calibration, without writing it.
public struct RoundedSource<Source: WeightSource>: WeightSource {
  private let source: Source
  private let shape: DecoderShape
  private let recipe: Recipe
  private let compute: Compute
  /// Whether the head is copied from the embedding.
  private let untiesHead: Bool

  /// - Parameter untyingHead: whether the source's head is its embedding and the recipe quantizes
  ///   it.
  /// - Throws: when the recipe needs calibration text, which is not available when a model is
  ///   loaded.
  public init(
    _ source: Source, _ shape: DecoderShape, recipe: Recipe, untyingHead: Bool = false,
    on compute: Compute
  ) throws(QuantizeError) {
    if let fault = recipe.fault ?? recipe.undecidedFault {
      throw .unsoundRecipe(recipe: recipe.name, reason: fault)
    }
    guard !recipe.needsCalibration else {
      throw .unsoundRecipe(
        recipe: recipe.name,
        reason: "it learns from text; use nibble quantize, and load what that writes")
    }
    if let linear = shape.blocks.first?.linears.first(where: \.liesInputsFirst) {
      throw .unsoundRecipe(
        recipe: recipe.name,
        reason:
          "\(linear.id) of \(shape.family) lies inputs first on disk, and is not rounded; run the "
          + "model as it is")
    }
    self.source = source
    self.shape = shape
    self.recipe = recipe
    self.compute = compute
    untiesHead = untyingHead
  }

  public func weight(_ path: String, outputs: Int, inputs: Int) throws(ModelError) -> Weight {
    let isHead = path == shape.head.path
    let weight = try source.weight(
      isHead && untiesHead ? shape.embedding.path : path, outputs: outputs, inputs: inputs)
    guard case .float(let matrix) = weight,
      isHead ? recipe.quantizesHead : shape.linear(at: path).map({ !$0.staysFloat }) == true,
      let scheme = isHead ? recipe.headScheme(of: path) : recipe.scheme(of: path)
    else { return weight }
    guard scheme.weights.fits(outputs: outputs, inputs: inputs) else {
      throw .unsupported("\(path): [\(outputs), \(inputs)] does not fit \(scheme.weights)")
    }
    let peak = try sharedPeak(of: path, scheme)
    do {
      let codes = try QuantizedMatrix(
        rounding: matrix, to: scheme.weights, scaleFormat: .f32, sharedPeak: peak,
        search: recipe.plainRound.search, releasing: true, on: compute)
      return .quantized(codes, inputs: scheme.activations.map { InputRounding($0) })
    } catch {
      throw .unsupported("\(path): value \(error.index) is infinite or not a number")
    }
  }

  /// Largest magnitude of the weights that share a float of all of their scales with one; 0 if there
  /// is none.
  private func sharedPeak(of path: String, _ scheme: LinearScheme) throws(ModelError) -> Float {
    let place = shape.place(of: path)
    guard scheme.weights.hasTensorScale, let index = place.block, index < shape.blocks.count else {
      return 0
    }
    let block = shape.blocks[index]
    let site = block.sites.first { $0.ids.contains(LinearID(rawValue: place.name)) }
    var peak: Float = 0
    for linear in site?.linears ?? [] where linear.stack == nil {
      let other = block.path(of: linear.id)
      guard Plan.Layer.module(of: other) == Plan.Layer.module(of: path),
        recipe.scheme(of: other) == scheme,
        case .float(let matrix) = try source.weight(
          other, outputs: linear.outputs, inputs: linear.inputs)
      else { continue }
      peak = max(peak, matrix.peak(on: compute))
    }
    return peak
  }

  public func stacked(
    _ linear: LinearShape, _ stack: LinearShape.Stack, in block: String
  ) throws(ModelError) -> (weight: Weight, bias: [Float]?) {
    try source.stacked(linear, stack, in: block)
  }

  public func vector(_ name: String, count: Int) throws(ModelError) -> [Float]? {
    try source.vector(name, count: count)
  }
}
