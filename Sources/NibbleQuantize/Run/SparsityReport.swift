import Foundation
import NibbleTensor

/// How well the codes of a layer compress.
public struct SparsityReport: Codable, Hashable, Sendable {
  /// Share of the weights that the rule let out of the scale of their row.
  public var outlierShare: Double
  /// Of the codes, each for itself, in bits.
  public var entropy: Double
  /// As Ascend's compressed codes, blocks of the last outputs overlapping where they must.
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
