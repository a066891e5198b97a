/// Rotates the heads of `[t, heads · d]`; row i stands at position i.
package struct RotaryPrimitive: Primitive {
  let table: RotaryTable
  private let transposed: RotaryTable
  let heads: Int

  package init(_ table: RotaryTable, heads: Int) {
    self.table = table
    transposed = table.transposed
    self.heads = heads
  }

  package func forward(_ inputs: [FloatRows], on compute: Compute) -> FloatRows {
    rotated(inputs[0], by: table, on: compute)
  }

  package func backward(
    _ gradient: FloatRows, _ inputs: [FloatRows], _ output: FloatRows, needed: [Bool],
    on compute: Compute
  ) -> [FloatRows?] { [rotated(gradient, by: transposed, on: compute)] }

  private func rotated(
    _ x: FloatRows, by table: RotaryTable, on compute: Compute
  ) -> FloatRows {
    var result = x
    var out = result.values.mutableSpan
    table.rotate(&out, heads: heads, headSize: x.columns / heads, from: 0, on: compute)
    return result
  }
}
