import NibbleFormats
import NibbleModel
public import NibbleTensor

/// Rounds each weight to the nearest code of its scheme.
public struct Round: Step {
  public static let name = "round"

  /// How scales are chosen. `shrink` and `clip` need calibration.
  public var search: ScaleSearch

  public init(search: ScaleSearch = .extremes) { self.search = search }

  public init(_ fields: RecipeFields?) throws {
    try fields?.allow(["search"])
    search = try ScaleSearch(fields) ?? .extremes
  }

  public var effects: StepEffects { .rounds }

  public var needs: StepNeeds {
    switch search {
    case .extremes, .codes: []
    case .shrink: [.statistics]
    case .clip: [.statistics, .moments]
    }
  }

  public func fault(after earlier: [any Step], _ schemes: [LinearScheme]) -> String? {
    if search == .clip, let scheme = schemes.first(where: { !$0.weights.format.isInteger }) {
      return "clip searches integer ranges, and a layer has \(scheme.weights.format) weights; use "
        + "shrink or extremes"
    }
    return search.fault(schemes)
  }

  public func apply(
    to block: inout WorkingBlock, _ context: inout StepContext
  ) throws(QuantizeError) -> [StepReport] {
    for (id, layer) in block.layers {
      guard let weight = block.weight(id) else { continue }
      do {
        let matrix = try round(
          weight, seen: layer.site.flatMap { block.seen[$0] }, scheme: layer.scheme.weights,
          scaleFormat: context.exporter.scaleFormat(of: layer),
          sharedPeak: block.sharedPeak(of: layer), on: context.compute)
        block.round(id, to: matrix, from: weight)
      } catch { throw .nonFinite(tensor: layer.path + ".weight", index: error.index) }
    }
    context.streams?.advanceQuantized(past: block.parameters)
    return []
  }

  /// Rounds straight from the checkpoint: no data, and a few rows in memory at a time.
  func round(
    _ layer: Plan.Layer, of checkpoint: Checkpoint, scaleFormat: FloatFormat, sharedPeak: Float,
    on compute: Compute
  ) throws(QuantizeError) -> QuantizedMatrix {
    let name = layer.tensor
    do {
      return try QuantizedMatrix(
        rounding: checkpoint.matrix(name, rows: layer.outputs, columns: layer.inputs),
        to: layer.scheme.weights, scaleFormat: scaleFormat, sharedPeak: sharedPeak, search: search,
        on: compute)
    } catch let error as NonFinite {
      throw .nonFinite(tensor: name, index: error.index)
    } catch { throw QuantizeError(wrapping: error) }
  }

  /// Rounds a weight that other steps changed.
  private func round(
    _ weight: FloatRows, seen: ActivationStatistics?, scheme: WeightScheme,
    scaleFormat: FloatFormat, sharedPeak: Float, on compute: Compute
  ) throws(NonFinite) -> QuantizedMatrix {
    guard !scheme.granularity.sharesRows else {
      return try QuantizedMatrix(
        rounding: weight.matrix, to: scheme, scaleFormat: scaleFormat, sharedPeak: sharedPeak,
        on: compute)
    }
    return QuantizedMatrix(
      nearest: weight,
      to: WeightRounding(
        scheme: scheme, scaleFormat: scaleFormat, search: search, sharedPeak: sharedPeak),
      importance: seen?.meanSquare.map(Float.init), moments: seen?.moments, on: compute)
  }
}

extension ScaleSearch {
  init?(_ fields: RecipeFields?) throws {
    switch try fields?.text("search") {
    case nil: return nil
    case "extremes": self = .extremes
    case "shrink": self = .shrink(steps: 20)
    case "clip": self = .clip
    case "codes": self = .codes
    case let other?: throw RecipeFault("search is \(other); use extremes, shrink, clip or codes")
    }
  }

  /// The reason why scales of these schemes cannot be searched; nil when they can.
  func fault(_ schemes: [LinearScheme]) -> String? {
    if self == .codes, schemes.allSatisfy({ $0.weights.format.scales == .float }) {
      return "search: codes is for mxfp4 and nvfp4, whose scales are codes; use shrink or extremes"
    }
    guard self != .extremes,
      let scheme = schemes.first(where: { $0.weights.granularity.sharesRows })
    else { return nil }
    return "a searched scale belongs to one row, and \(scheme.weights) shares scales between rows"
  }
}

extension Plan.Layer {
  /// Layers that an engine fuses into one, such as query, key and value, if each has one float for
  /// all of its scales. The engine would use the largest of these floats for all of them, so these
  /// layers share it here.
  func fused(among layers: some Sequence<Plan.Layer>) -> [Plan.Layer] {
    guard scheme.weights.hasTensorScale, let site else { return [] }
    return layers.filter { $0.scheme == scheme && $0.site == site && $0.module == module }
  }
}

extension WorkingBlock {
  /// Largest magnitude of the weights that share a float of all of their scales with a layer; 0 if
  /// there is none.
  func sharedPeak(of layer: Plan.Layer) -> Float {
    layer.fused(among: layers.values).compactMap(\.linear).compactMap {
      weight($0)?.matrix.peak(on: compute)
    }.max() ?? 0
  }
}
