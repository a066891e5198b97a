import NibbleTensor
import Testing

@Suite struct CrossMatrixTests {
  @Test(arguments: [(1, 1, 1), (5, 3, 8), (130, 300, 40), (300, 17, 5000)])
  func theSumIsThatOfTheProducts(_ n: Int, _ k: Int, _ tokens: Int) {
    let a = correlated(tokens: tokens, channels: n, seed: 1)
    let b = correlated(tokens: tokens, channels: k, seed: 2)
    var one = CrossMatrix(rows: n, columns: k)
    var three = one
    var (first, second) = (one, one)
    let threads = Compute(threads: 3, precision: .f32)
    // In windows of uneven lengths, which are no multiple of a slab.
    var start = 0
    while start < tokens {
      let end = min(tokens, start + 777)
      let (x, y) = (Array(a[start * n..<end * n]), Array(b[start * k..<end * k]))
      one.add(x, y, on: oneThread)
      three.add(x, y, on: threads)
      if start == 0 { first.add(x, y, on: oneThread) } else { second.add(x, y, on: oneThread) }
      start = end
    }
    one.finish(on: oneThread)
    three.finish(on: threads)
    #expect(one.values.bits == three.values.bits)
    first.finish(on: oneThread)
    second.finish(on: oneThread)
    first.add(second)
    let exact = DoubleMatrix(a, columns: n).transposed * DoubleMatrix(b, columns: k)
    let scale =
      (DoubleMatrix(a.map(abs), columns: n).transposed * DoubleMatrix(b.map(abs), columns: k))
      .values.max() ?? 1
    for (index, value) in exact.values.enumerated() {
      #expect(abs(Double(one.values[index]) - value) <= 1e-6 * scale)
      #expect(abs(Double(first.values[index]) - value) <= 1e-6 * scale)
    }
  }

  @Test func rowsTimesTheSum() {
    let (n, k, p) = (70, 33, 45)
    let rows = FloatRows(correlated(tokens: n, channels: k, seed: 3), columns: k)
    var matrix = CrossMatrix(rows: k, columns: p)
    matrix.add(
      correlated(tokens: 9, channels: k, seed: 4), correlated(tokens: 9, channels: p, seed: 5),
      on: oneThread)
    matrix.finish(on: oneThread)
    let product = rows.times(
      FloatRows(matrix.values, columns: p), on: oneThread)
    let exact = DoubleMatrix(rows.values, columns: k) * DoubleMatrix(matrix.values, columns: p)
    let scale = exact.values.reduce(0) { max($0, abs($1)) }
    #expect(product.columns == p)
    for (ours, value) in zip(product.values, exact.values) {
      #expect(abs(Double(ours) - value) <= 1e-5 * scale)
    }
  }
}
