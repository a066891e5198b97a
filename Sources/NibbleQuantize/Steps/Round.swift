import NibbleFormats
import NibbleModel
import NibbleTensor

/// Rounds each weight to the nearest code of its scheme; needs no data.
struct Round {
  func apply(
    to layer: Plan.Layer, of checkpoint: Checkpoint, scaleFormat: FloatFormat, on compute: Compute
  ) throws(QuantizeError) -> (matrix: QuantizedMatrix, report: LayerReport) {
    let name = layer.path + ".weight"
    let weight: FloatMatrix
    do {
      weight = try checkpoint.matrix(name, rows: layer.outputs, columns: layer.inputs)
    } catch { throw .model(error) }
    let matrix: QuantizedMatrix
    do {
      matrix = try QuantizedMatrix(
        rounding: weight, to: layer.scheme.weights, scaleFormat: scaleFormat, on: compute)
    } catch { throw .nonFinite(tensor: name, index: error.index) }
    let noise = matrix.signalToNoise(against: weight, on: compute)
    return (
      matrix, LayerReport(path: layer.path, signalToNoise: noise.isFinite ? noise : nil)
    )
  }
}
