import NibbleFormats
import NibbleModel
import NibbleTensor

extension CompressedTensorsReader {
  /// Codes and scales of an MXFP4 or NVFP4 weight. Source: compressed-tensors 0.20,
  /// `compressors/mxfp4` and `compressors/nvfp4`.
  func packedFloats(
    _ path: String, _ weights: WeightScheme, _ outputs: Int, _ inputs: Int
  ) throws(ModelError) -> QuantizedMatrix {
    let name = path + ".weight_scale"
    let shape = [outputs, weights.scalesPerRow(inputs: inputs)]
    let codes = try checkpoint.bytes(path + ".weight_packed", .u8, [outputs, inputs / 2])
    var divisor: Float = 1
    let scales: [Float]
    if weights.format == .nvfp4 {
      divisor = try checkpoint.scales(path + ".weight_global_scale", [1])[0]
      let numbers = Minifloat.e4m3.values
      scales = try checkpoint.bytes(name, .f8E4M3, shape).array.map { numbers[Int($0)] / divisor }
    } else {
      scales = try checkpoint.bytes(name, .u8, shape).array.map { exponent in
        // 255 stands for no number.
        exponent == 255
          ? .nan : Float(sign: .plus, exponent: Int(exponent) - 127, significand: 1)
      }
    }
    // Some tools write zeros for groups of zeros.
    if let index = scales.firstIndex(where: { !($0.isFinite && $0 >= 0) }) {
      throw .unsupported("\(name): scale \(index) is \(scales[index]); scales are not below zero")
    }
    return QuantizedMatrix(
      scheme: weights, rows: outputs, columns: inputs, codes: codes, scales: scales,
      scaleDivisor: divisor)
  }
}
