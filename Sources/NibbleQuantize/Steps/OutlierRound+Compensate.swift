import Foundation
import NibbleTensor

extension OutlierRound {
  /// Factor of the second moments of the inputs that the linears of a site share.
  struct Factor {
    let order: [Int]
    let upper: UpperFactor

    init(_ moments: GramMatrix, on compute: Compute) {
      let k = moments.channels
      let diagonal = (0..<k).map { moments.values[$0 * k + $0] }
      order = (0..<k).sorted { (diagonal[$0], $1) > (diagonal[$1], $0) }
      upper = GPTQ.factor(moments, damping: 0.01, order: order, on: compute)
    }
  }

  /// Rounds with error compensation, to codes that compress to no more bytes than those of the
  /// rule.
  ///
  /// All rows take one scale, because they have the same inputs: an error of one code then costs
  /// the same everywhere, and large values get more bits. A row whose largest value would need a
  /// code above 127 takes a coarser scale. The scale is the finest that meets the size.
  func round(
    _ weight: FloatRows, factor: Factor, scaleFormat: FloatFormat, on compute: Compute
  ) -> (QuantizedMatrix, outliers: Int) {
    let grid = FractalGrid(outputs: weight.rows, inputs: weight.columns)
    let (reference, outliers) = round(weight, scaleFormat: scaleFormat, on: compute)
    func size(_ matrix: QuantizedMatrix) -> Int {
      CompressedCodes(compressing: matrix.codes, grid: grid, on: compute).data.count
    }
    let target = size(reference)
    let peaks = weight.rowPeaks()
    func scales(_ shared: Float) -> [Float] {
      peaks.map { peak in
        max(scaleFormat.round(max(shared, peak / 127)), .leastNormalMagnitude)
      }
    }
    // Searches with codes rounded to nearest, which are fast to compute, between 1/64 and 64 times
    // the median scale.
    var (fine, coarse) = (-6.0, 6.0)
    let sorted = reference.scales.sorted()
    let middle = sorted[sorted.count / 2]
    for _ in 0..<12 {
      let exponent = (fine + coarse) / 2
      let trial = QuantizedMatrix(
        narrow: weight, scales: scales(middle * Float(pow2(exponent))), on: compute)
      if size(trial) > target { fine = exponent } else { coarse = exponent }
    }
    var shared = middle * Float(pow2(coarse))
    while true {
      let matrix = QuantizedMatrix(
        feedback: weight,
        to: WeightRounding(
          scheme: reference.scheme, scaleFormat: scaleFormat, search: .extremes),
        factor: factor.upper, order: factor.order, scales: scales(shared), on: compute)
      if size(matrix) <= target { return (matrix, outliers) }
      shared *= 1.01
    }
  }

  private func pow2(_ exponent: Double) -> Double { pow(2, exponent) }
}
