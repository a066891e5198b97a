extension QuantizedMatrix {
  /// `Σ_k code` of each row of int8 codes, `[n]`.
  public var rowSums: [Int] {
    precondition(scheme.format.numbers == .integer(bits: 8), "\(scheme) has no int8 codes")
    return Self.rowSums(codes, rows: rows)
  }

  /// `Σ_k code` of each row of int8 codes `[n, k]`.
  public static func rowSums(_ codes: Bytes, rows: Int) -> [Int] {
    let k = rows > 0 ? codes.count / rows : 0
    return unsafe codes.withUnsafeBytes { codes in
      (0..<rows).map { row in
        var sum = 0
        for column in row * k..<(row + 1) * k {
          sum += Int(Int8(bitPattern: unsafe codes[column]))
        }
        return sum
      }
    }
  }
}
