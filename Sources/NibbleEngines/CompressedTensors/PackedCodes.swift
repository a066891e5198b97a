import NibbleTensor

/// Codes of 4 or 8 bits in int32 words, first code in the lowest bits, each shifted by
/// `2^(bits-1)` to be unsigned. Source: compressed-tensors 0.20 `pack_to_int32`.
enum PackedCodes {
  /// Packs codes into `[n, k * bits / 32]` words. int4 codes in memory are packed this way already.
  static func pack(_ matrix: QuantizedMatrix) -> Bytes {
    matrix.scheme.bits == 4 ? matrix.codes : shifted(matrix.codes)
  }

  static func unpack(_ words: Bytes, bits: Int) -> Bytes {
    bits == 4 ? words : shifted(words)
  }

  /// Widens two int4 codes per byte to one int8 per code.
  static func widen(_ codes: Bytes) -> Bytes {
    Bytes(codes.array.flatMap { [($0 & 15) &- 8, ($0 >> 4) &- 8] })
  }

  /// Packs one int8 per code to two int4 codes per byte; nil when a code is not in -8...7.
  ///
  /// - Precondition: the number of `codes` is even.
  static func narrow(_ codes: Bytes) -> Bytes? {
    let wide = codes.array
    var bytes: [UInt8] = []
    bytes.reserveCapacity(wide.count / 2)
    for index in stride(from: 0, to: wide.count, by: 2) {
      let (low, high) = (wide[index] &+ 8, wide[index + 1] &+ 8)
      guard low < 16, high < 16 else { return nil }
      bytes.append(low | high << 4)
    }
    return Bytes(bytes)
  }

  /// Adds 128 to each byte, which converts between int8 and unsigned codes.
  private static func shifted(_ codes: Bytes) -> Bytes {
    var bytes = codes.array
    for index in bytes.indices { bytes[index] ^= 0x80 }
    return Bytes(bytes)
  }

  /// Packs zero points `[n, g]` along the outputs into `[n * bits / 32, g]` words.
  static func packZeroPoints(_ matrix: QuantizedMatrix) -> Bytes {
    let bits = matrix.scheme.bits
    let groups = matrix.zeroPoints.count / matrix.rows
    let perWord = 32 / bits
    let words = (matrix.rows + perWord - 1) / perWord
    var packed = [UInt32](repeating: 0, count: words * groups)
    for row in 0..<matrix.rows {
      for group in 0..<groups {
        let code = UInt32(Int(matrix.zeroPoints[row * groups + group]) + 1 << (bits - 1))
        packed[row / perWord * groups + group] |= code << (row % perWord * bits)
      }
    }
    return Bytes(packed.flatMap { littleEndian($0) })
  }

  static func unpackZeroPoints(_ bytes: Bytes, rows: Int, groups: Int, bits: Int) -> [Int8] {
    let content = bytes.array
    let perWord = 32 / bits
    let mask = UInt32(1 << bits - 1)
    var zeros: [Int8] = []
    zeros.reserveCapacity(rows * groups)
    for row in 0..<rows {
      for group in 0..<groups {
        let at = 4 * (row / perWord * groups + group)
        let word = (0..<4).reduce(UInt32(0)) { $0 | UInt32(content[at + $1]) << (8 * $1) }
        let code = Int(word >> (row % perWord * bits) & mask)
        zeros.append(Int8(code - 1 << (bits - 1)))
      }
    }
    return zeros
  }

  static func shape(_ sizes: [Int]) -> Bytes { Bytes(sizes.flatMap { littleEndian(Int64($0)) }) }

  private static func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
    (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
}
