import CNibble

extension QuantizedMatrix {
  /// Dequantizes some rows, `[rows, k]`, with their columns in the order of the codes.
  ///
  /// - Parameter unscaled: whether to leave scales and offsets out and give `code - zero` as floats,
  ///   exactly.
  func decode(
    _ part: Range<Int>, into values: UnsafeMutablePointer<Float>, unscaled: Bool = false
  ) {
    let grid = grid
    unsafe codes(of: part).withUnsafeBytes { codes in
      for row in part {
        for group in 0..<grid.perRow {
          let index = grid.index(row: row) + group
          let scale = unscaled ? 1 : scales[index]
          let zero = zeroPoints.isEmpty ? 0 : Int32(zeroPoints[index])
          let start = group * grid.columns
          let count = min(grid.columns, columns - start)
          let at = (row - part.lowerBound) * columns + start
          let out = unsafe values + at
          let bytes = unsafe codes.baseAddress!.assumingMemoryBound(to: UInt8.self)
          switch scheme.format.numbers {
          case .minifloat(.e4m3):
            unsafe nibble_e4m3_to_f32(bytes + at, out, count)
            if !unscaled { unsafe nibble_scale(out, scale, count) }
          case .minifloat:
            unsafe nibble_decode_table(
              bytes + at * scheme.bits / 8, Int32(scheme.bits), out, count, table, scale)
          case .integer(let bits) where bits <= 4:
            unsafe nibble_decode_int4(bytes + at / 2, out, count, scale, zero)
          case .integer:
            unsafe nibble_decode_int8(
              codes.baseAddress!.assumingMemoryBound(to: Int8.self) + at, out, count, scale, zero)
          }
        }
      }
    }
    if !unscaled { unsafe addOffsets(part, to: values) }
  }

  /// Adds the offsets to dequantized rows, `[rows, k]`.
  func addOffsets(_ part: Range<Int>, to values: UnsafeMutablePointer<Float>) {
    guard !offsets.isEmpty else { return }
    let grid = grid
    for row in part {
      let line = unsafe values + (row - part.lowerBound) * columns
      for group in 0..<grid.perRow {
        let offset = offsets[grid.index(row: row) + group]
        for i in group * grid.columns..<min(columns, (group + 1) * grid.columns) {
          unsafe line[i] += offset
        }
      }
    }
  }

  /// The matrix as floats, `[n, k]`.
  public func decoded() -> [Float] {
    unsafe [Float](unsafeUninitializedCapacity: rows * columns) { values, initialized in
      if rows * columns > 0 { unsafe decode(0..<rows, into: values.baseAddress!) }
      initialized = rows * columns
    }.inOrder(inputOrder)
  }
}

extension [Float] {
  /// Rows whose column j is input `order[j]`, with their columns in the order of the inputs; the same
  /// array when there is no order.
  func inOrder(_ order: [Int32]) -> [Float] {
    guard !order.isEmpty else { return self }
    var result = self
    for start in stride(from: 0, to: count, by: order.count) {
      for (column, input) in order.enumerated() {
        result[start + Int(input)] = self[start + column]
      }
    }
    return result
  }
}
