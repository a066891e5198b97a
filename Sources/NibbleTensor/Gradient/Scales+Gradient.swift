import CNibble

extension QuantizedMatrix {
  /// The same codes with other scales.
  package func with(scales: [Float]) -> QuantizedMatrix {
    QuantizedMatrix(
      scheme: scheme, rows: rows, columns: columns, codes: codes, scales: scales,
      zeroPoints: zeroPoints, offsets: offsets, inputOrder: inputOrder,
      scaleDivisor: scaleDivisor)
  }
}

/// A weight from the scales of fixed codes: `W[n, k] = s (q - z)`, with the scale s and the zero
/// point z of the rectangle of `ScaleGrid` that the value lies in.
///
/// Input: the scales, `[1, count]`. The gradient of a scale is `Σ gW (q - z)` over its rectangle.
package struct ScalesPrimitive: Primitive {
  let matrix: QuantizedMatrix

  /// - Precondition: the columns of the codes are in the order of the inputs.
  package init(_ matrix: QuantizedMatrix) {
    precondition(matrix.inputOrder.isEmpty, "columns in an order of their own")
    self.matrix = matrix
  }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    FloatRows(.quantized(matrix.with(scales: inputs[0].values), inputs: nil), on: compute)
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] {
    let (grid, k) = (matrix.grid, matrix.columns)
    var ofScales = [Float](repeating: 0, count: grid.count)
    unsafe ofScales.withUnsafeMutableBufferPointer { ofScales in
      unsafe gradient.values.withUnsafeBufferPointer { gradient in
        // A band's scales are summed by one thread.
        compute.pool.run(grid.bands) { band, _ in
          var sums = [Double](repeating: 0, count: grid.perRow)
          let rows = band * grid.rows..<min((band + 1) * grid.rows, matrix.rows)
          unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: k) { units in
            for row in rows {
              unsafe matrix.decode(row..<row + 1, into: units.baseAddress!, unscaled: true)
              for group in 0..<grid.perRow {
                let start = group * grid.columns
                unsafe sums[group] += Double(
                  nibble_dot_f32(
                    gradient.baseAddress! + row * k + start, units.baseAddress! + start,
                    min(grid.columns, k - start)))
              }
            }
          }
          for group in 0..<grid.perRow {
            unsafe ofScales[band * grid.perRow + group] = Float(sums[group])
          }
        }
      }
    }
    return [FloatRows(ofScales, columns: ofScales.count)]
  }
}
