public import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Which of a recipe's candidates each layer takes: the scheme that loses least.
///
/// Layers that an engine fuses (query, key and value; gate and up) take one scheme together, and so
/// do all experts of a block: the one with the least sum of errors, the first on ties. The error of a
/// layer is `Σ (w - ŵ)²` of its weight; with statistics it is `Σ (x Wᵀ - x̂ Ŵᵀ)²` over the inputs that
/// they keep, with x̂ rounded as the scheme says. Weights are rounded to nearest. A scheme that does
/// not fit one of the weights is left out.
///
/// Source: MoFQ, arXiv 2305.12356.
public struct FormatChoice: Sendable {
  /// Layers that take one scheme.
  public struct Group: Sendable, Hashable {
    /// Module paths.
    public var paths: [String]
    /// The error in each candidate; nil where it does not fit.
    public var errors: [Double?]
    /// Index of the candidate; 0 if none fits.
    public var chosen: Int
  }

  public let candidates: [LinearScheme]
  public private(set) var groups: [Group] = []
  /// Whether errors are of outputs; otherwise of weights.
  public let comparesOutputs: Bool

  /// - Parameters:
  ///   - recipe: one with candidates.
  ///   - statistics: of the model's activations, from `nibble calibrate`; nil: weights alone.
  ///   - progress: called after each block.
  /// - Throws: when the family is unknown, a weight is not finite, or the statistics are another
  ///   model's.
  public init(
    _ checkpoint: Checkpoint, _ recipe: Recipe, exporter: any Exporter,
    statistics: StatisticsFile? = nil, on compute: Compute,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(QuantizeError) {
    candidates = recipe.candidates
    comparesOutputs = statistics != nil
    let plan = try Plan(checkpoint, recipe: recipe, exporter: exporter, windows: WindowSizes())
    guard plan.decoder != nil else {
      throw .unsoundRecipe(
        recipe: recipe.name,
        reason: "which layers engines fuse, and must have one format, is known of families that "
          + "Nibble runs only; use a recipe with one format")
    }
    try statistics?.check(checkpoint)
    let blocks = plan.units.filter { $0.block != nil }
    for (index, unit) in blocks.enumerated() {
      let layers = unit.layers.filter { layer in
        layer.linear != nil && !recipe.exceptions.contains { $0.matches(layer.path) }
      }
      for fused in Self.groups(layers) {
        groups.append(
          try Comparison(
            checkpoint: checkpoint, recipe: recipe, exporter: exporter, layers: fused,
            inputs: try Self.inputs(of: unit, fused, statistics), compute: compute
          ).group())
      }
      progress(index + 1, blocks.count)
    }
  }

  /// Layers of a block by what engines fuse, in order of first appearance.
  private static func groups(_ layers: [Plan.Layer]) -> [[Plan.Layer]] {
    struct Place: Hashable {
      var site: Site?
      var module: Substring?
    }
    var order: [Place] = []
    var groups: [Place: [Plan.Layer]] = [:]
    for layer in layers {
      let place =
        layer.isOfExpert ? Place() : Place(site: layer.site, module: layer.module)
      if groups[place] == nil { order.append(place) }
      groups[place, default: []].append(layer)
    }
    return order.compactMap { groups[$0] }
  }

  /// What the statistics keep of each site's inputs, `[t, k]`.
  private static func inputs(
    of unit: Plan.Unit, _ layers: [Plan.Layer], _ statistics: StatisticsFile?
  ) throws(QuantizeError) -> [Site: FloatRows] {
    guard let statistics, let block = unit.block else { return [:] }
    var inputs: [Site: FloatRows] = [:]
    for layer in layers {
      guard let site = layer.site, inputs[site] == nil else { continue }
      let seen = ActivationStatistics(try statistics.record(block, site), moments: nil)
      guard seen.channels == layer.inputs else {
        throw .statistics(path: statistics.path, reason: "its records have other sizes")
      }
      if seen.tokens > 0 { inputs[site] = seen.sample }
    }
    return inputs
  }

  /// How many layers take each candidate.
  public var counts: [Int] {
    groups.reduce(into: [Int](repeating: 0, count: candidates.count)) {
      $0[$1.chosen] += $1.paths.count
    }
  }

  public var json: JSON {
    [
      "candidates": .array(candidates.map { .string("\($0)") }),
      "error": .string(comparesOutputs ? "outputs" : "weights"),
      "groups": .array(
        groups.map { group in
          [
            "layers": .array(group.paths.map { .string($0) }),
            "errors": .array(group.errors.map { $0.map { .number($0) } ?? .null }),
            "scheme": .string("\(candidates[group.chosen])"),
          ]
        }),
    ]
  }
}

/// The errors of layers that take one scheme.
private struct Comparison {
  let checkpoint: Checkpoint
  let recipe: Recipe
  let exporter: any Exporter
  let layers: [Plan.Layer]
  let inputs: [Site: FloatRows]
  let compute: Compute

  func group() throws(QuantizeError) -> FormatChoice.Group {
    var errors: [Double?] = []
    for candidate in recipe.candidates { errors.append(try error(candidate)) }
    let best = errors.indices.filter { errors[$0] != nil }.min {
      (errors[$0] ?? 0, $0) < (errors[$1] ?? 0, $1)
    }
    return FormatChoice.Group(paths: layers.map(\.path), errors: errors, chosen: best ?? 0)
  }

  /// The sum of the layers' errors; nil when the scheme does not fit one of them.
  private func error(_ scheme: LinearScheme) throws(QuantizeError) -> Double? {
    guard
      layers.allSatisfy({ scheme.weights.fits(outputs: $0.outputs, inputs: $0.inputs) })
    else { return nil }
    let layers = layers.map { layer in
      var layer = layer
      layer.scheme = scheme
      return layer
    }
    var sum = 0.0
    for layer in layers {
      var peak: Float = 0
      for other in layer.fused(among: layers) {
        peak = max(peak, try source(other).peak(on: compute))
      }
      let matrix = try recipe.plainRound.round(
        layer, of: checkpoint, scaleFormat: exporter.scaleFormat(of: layer), sharedPeak: peak,
        on: compute)
      let weight = try source(layer)
      let rounded = Weight.quantized(
        matrix, inputs: scheme.activations.map { InputRounding($0) })
      if let x = layer.site.flatMap({ inputs[$0] }) {
        sum += outputError(x, .float(weight), rounded)
      } else {
        var lost = FloatRows(rounded, on: compute)
        lost.add(FloatRows(.float(weight), on: compute), times: -1, on: compute)
        sum += lost.energy
      }
      weight.bytes.release()
    }
    return sum
  }

  private func source(_ layer: Plan.Layer) throws(QuantizeError) -> FloatMatrix {
    do {
      return try checkpoint.matrix(layer.tensor, rows: layer.outputs, columns: layer.inputs)
    } catch { throw .model(error) }
  }

  private func outputError(_ x: FloatRows, _ weight: Weight, _ rounded: Weight) -> Double {
    var exact = [Float](repeating: 0, count: x.rows * weight.rows)
    var found = exact
    var exactSpan = exact.mutableSpan
    weight.multiply(x.values.span, into: &exactSpan, on: compute)
    var foundSpan = found.mutableSpan
    rounded.multiply(x.values.span, into: &foundSpan, on: compute)
    return zip(exact, found).reduce(0.0) { sum, pair in
      let error = Double(pair.0) - Double(pair.1)
      return sum + error * error
    }
  }
}

extension Plan.Layer {
  /// Whether it belongs to an expert, all of whose layers have one scheme.
  var isOfExpert: Bool { site?.isOfExpert == true || path.contains(".experts.") }
}

extension Recipe {
  /// The recipe with the candidate that each layer takes.
  public func choosing(_ choice: FormatChoice) -> Recipe {
    var recipe = self
    recipe.hasChosen = true
    recipe.exceptions += choice.groups.filter { $0.chosen != 0 }.flatMap { group in
      group.patterns.map { Exception(pattern: $0, scheme: choice.candidates[group.chosen]) }
    }
    return recipe
  }
}

extension FormatChoice.Group {
  /// Patterns that match these layers alone: one for the many experts of a block.
  fileprivate var patterns: [String] {
    guard let range = paths[0].firstRange(of: ".experts.") else { return paths }
    return [paths[0][..<range.upperBound] + "*"]
  }
}
