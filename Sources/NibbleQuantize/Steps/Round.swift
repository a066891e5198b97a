import NibbleFormats
import NibbleModel
public import NibbleTensor

/// Rounds each weight to the nearest code of its scheme.
public struct Round: Hashable, Sendable, Codable {
  /// How scales are chosen. Anything but `extremes` needs calibration.
  public var search: ScaleSearch

  public init(search: ScaleSearch = .extremes) { self.search = search }

  /// Rounds straight from the checkpoint: no data, and a few rows in memory at a time.
  func apply(
    to layer: Plan.Layer, of checkpoint: Checkpoint, scaleFormat: FloatFormat, sharedPeak: Float,
    on compute: Compute
  ) throws(QuantizeError) -> QuantizedMatrix {
    let name = layer.tensor
    do {
      return try QuantizedMatrix(
        rounding: checkpoint.matrix(name, rows: layer.outputs, columns: layer.inputs),
        to: layer.scheme.weights, scaleFormat: scaleFormat, sharedPeak: sharedPeak, on: compute)
    } catch let error as NonFinite {
      throw .nonFinite(tensor: name, index: error.index)
    } catch { throw QuantizeError(wrapping: error) }
  }

  /// Rounds a weight that other steps changed.
  func apply(
    to weight: FloatRows, seen: ActivationStatistics?, scheme: WeightScheme,
    scaleFormat: FloatFormat, sharedPeak: Float, on compute: Compute
  ) throws(NonFinite) -> QuantizedMatrix {
    guard !scheme.granularity.sharesRows else {
      return try QuantizedMatrix(
        rounding: weight.matrix, to: scheme, scaleFormat: scaleFormat, sharedPeak: sharedPeak,
        on: compute)
    }
    return QuantizedMatrix(
      nearest: weight,
      to: WeightRounding(scheme: scheme, scaleFormat: scaleFormat, search: search),
      importance: seen?.meanSquare.map(Float.init), moments: seen?.moments, on: compute)
  }
}
