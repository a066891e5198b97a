import Foundation
import NibbleTensor

/// How well the codes of one layer compress.
public struct SparsityReport: Codable, Hashable, Sendable {
  /// Fraction of the weights, 0...1, that are outliers: they do not determine their row's scale.
  public var outlierShare: Double
  /// Entropy of the codes' distribution, in bits per code.
  public var entropy: Double
  /// Size in Ascend's compressed format, in bytes. The last blocks of outputs overlap if the format
  /// needs it.
  public var compressedBytes: Int

  init(_ matrix: QuantizedMatrix, outliers: Int, on compute: Compute) {
    let count = Double(max(1, matrix.rows * matrix.columns))
    outlierShare = Double(outliers) / count
    var counts = [Int](repeating: 0, count: 256)
    for code in matrix.codes.array { counts[Int(code)] += 1 }
    entropy = counts.reduce(0.0) { sum, times in
      times == 0 ? sum : sum - Double(times) / count * log2(Double(times) / count)
    }
    compressedBytes =
      CompressedCodes(
        compressing: matrix.codes,
        grid: FractalGrid(outputs: matrix.rows, inputs: matrix.columns), on: compute
      ).data.count
  }
}
