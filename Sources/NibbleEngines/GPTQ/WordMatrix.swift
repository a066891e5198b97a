/// A matrix of 32-bit words as bytes, row-major.
struct WordMatrix {
  let bytes: [UInt8]
  let columns: Int

  /// - Precondition: the bytes are whole rows.
  init(_ bytes: [UInt8], columns: Int) {
    precondition(
      columns > 0 && bytes.count.isMultiple(of: 4 * columns),
      "\(bytes.count) bytes are no rows of \(columns) words")
    self.bytes = bytes
    self.columns = columns
  }

  /// The bytes of the transposed matrix, moved in blocks that stay in cache.
  var transposed: [UInt8] {
    let rows = bytes.count / (4 * columns)
    let tile = 32
    var result = [UInt8](repeating: 0, count: bytes.count)
    for firstRow in stride(from: 0, to: rows, by: tile) {
      for firstColumn in stride(from: 0, to: columns, by: tile) {
        for column in firstColumn..<min(firstColumn + tile, columns) {
          for row in firstRow..<min(firstRow + tile, rows) {
            let (from, to) = (4 * (row * columns + column), 4 * (column * rows + row))
            for byte in 0..<4 { result[to + byte] = bytes[from + byte] }
          }
        }
      }
    }
    return result
  }
}
