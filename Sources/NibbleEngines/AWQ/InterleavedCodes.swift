import NibbleTensor

/// Unsigned 4-bit codes in int32 words along the outputs, one row per input: eight outputs per
/// word, in the order 0, 2, 4, 6, 1, 3, 5, 7 from the lowest bits. Source: AutoAWQ 0.2.9 `gemm`.
///
/// Codes -8...7 are stored as 0...15, and zero points likewise.
enum InterleavedCodes {
  /// Outputs per word.
  static let perWord = 8

  /// For each byte of a word, the output in its low half; the high half holds that output plus two.
  private static let low = [0, 4, 1, 5]

  /// Packs codes `[n, k]` into words `[k, n / 8]`.
  static func pack(_ matrix: QuantizedMatrix) -> Bytes {
    let codes = matrix.codes.array
    let width = matrix.columns
    return Bytes(
      pack(outputs: matrix.rows, rows: width) { output, input in
        let index = output * width + input
        return codes[index / 2] >> (UInt8(truncatingIfNeeded: index) % 2 * 4) & 15
      })
  }

  /// Packs zero points `[n, g]` into words `[g, n / 8]`.
  static func pack(zeroPoints: [Int8], outputs: Int, groups: Int) -> Bytes {
    Bytes(
      pack(outputs: outputs, rows: groups) { output, group in
        UInt8(bitPattern: zeroPoints[output * groups + group] + 8)
      })
  }

  /// Unpacks words `[k, n / 8]` to codes `[n, k]`, two per byte, as they are held in memory.
  ///
  /// - Precondition: `inputs` is even, `outputs` a multiple of eight.
  static func unpack(_ words: Bytes, outputs: Int, inputs: Int) -> Bytes {
    let packed = words.array
    var codes = [UInt8](repeating: 0, count: outputs * inputs / 2)
    unpack(packed, outputs: outputs, rows: inputs) { output, input, code in
      let index = output * inputs + input
      codes[index / 2] |= code << (UInt8(truncatingIfNeeded: index) % 2 * 4)
    }
    return Bytes(codes)
  }

  /// Unpacks words `[g, n / 8]` to zero points `[n, g]`.
  static func unpackZeroPoints(_ words: Bytes, outputs: Int, groups: Int) -> [Int8] {
    var zeros = [Int8](repeating: 0, count: outputs * groups)
    unpack(words.array, outputs: outputs, rows: groups) { output, group, code in
      zeros[output * groups + group] = Int8(code) - 8
    }
    return zeros
  }

  @inline(__always) private static func pack(
    outputs: Int, rows: Int, code: (_ output: Int, _ row: Int) -> UInt8
  ) -> [UInt8] {
    precondition(outputs.isMultiple(of: perWord), "\(outputs) outputs do not fill words")
    var bytes = [UInt8](repeating: 0, count: outputs * rows / 2)
    visit(outputs: outputs, rows: rows) { output, row, byte in
      bytes[byte] = code(output, row) | code(output + 2, row) << 4
    }
    return bytes
  }

  @inline(__always) private static func unpack(
    _ bytes: [UInt8], outputs: Int, rows: Int, take: (_ output: Int, _ row: Int, UInt8) -> Void
  ) {
    precondition(bytes.count == outputs * rows / 2, "\(bytes.count) bytes of [\(rows), \(outputs)]")
    visit(outputs: outputs, rows: rows) { output, row, byte in
      take(output, row, bytes[byte] & 15)
      take(output + 2, row, bytes[byte] >> 4)
    }
  }

  /// Visits every byte of the words, with its row and the output in its low half, in blocks that
  /// fit the cache, because one side is read across rows.
  @inline(__always) private static func visit(
    outputs: Int, rows: Int, body: (_ output: Int, _ row: Int, _ byte: Int) -> Void
  ) {
    let tile = 128
    for start in stride(from: 0, to: rows, by: tile) {
      for word in 0..<outputs / perWord {
        for row in start..<min(start + tile, rows) {
          let byte = (row * (outputs / perWord) + word) * 4
          for part in 0..<4 { body(word * perWord + low[part], row, byte + part) }
        }
      }
    }
  }
}
