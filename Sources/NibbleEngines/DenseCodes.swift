import NibbleTensor

/// Unsigned codes of 2 to 8 bits without gaps, each row one string of bits from the lowest up: what
/// GPTQ's columns, GPTQ's zero points and MLX's rows are.
///
/// A code q stands for the number `q - 2^(bits-1)`.
enum DenseCodes {
  /// The codes of a weight `[n, k]` as rows of `k * bits / 8` bytes.
  ///
  /// - Precondition: the weight holds integers, and its rows fill whole bytes.
  static func pack(_ matrix: QuantizedMatrix) -> [UInt8] {
    let bits = matrix.scheme.format.numbers.bits
    let stored = matrix.codes.array
    switch bits {
    case 4: return stored
    case 8: return stored.map { $0 ^ 0x80 }
    default:
      let half = 1 << (bits - 1)
      return pack(count: matrix.rows * matrix.columns, bits: bits) { index in
        if bits > 4 { return UInt8(Int(Int8(bitPattern: stored[index])) + half) }
        let code = stored[index / 2] >> (UInt8(truncatingIfNeeded: index) % 2 * 4) & 15
        return code + UInt8(half) - 8
      }
    }
  }

  /// Packs `count` codes, which fill whole bytes.
  static func pack(count: Int, bits: Int, _ code: (Int) -> UInt8) -> [UInt8] {
    precondition((count * bits).isMultiple(of: 8), "\(count) codes of \(bits) bits end in a byte")
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count * bits / 8)
    var (waiting, held) = (UInt32(0), 0)
    for index in 0..<count {
      waiting |= UInt32(code(index)) << UInt32(held)
      held += bits
      while held >= 8 {
        bytes.append(UInt8(truncatingIfNeeded: waiting))
        waiting >>= 8
        held -= 8
      }
    }
    return bytes
  }

  /// The codes as they lie in memory: ``NibbleTensor/QuantizedMatrix/codes``.
  static func unpack(_ packed: Bytes, count: Int, bits: Int) -> Bytes {
    switch bits {
    case 4: return packed
    case 8:
      var bytes = packed.array
      for index in bytes.indices { bytes[index] ^= 0x80 }
      return Bytes(bytes)
    default:
      let half = UInt8(1 << (bits - 1))
      var codes = [UInt8](repeating: 0, count: bits < 4 ? count / 2 : count)
      unpack(packed.array, count: count, bits: bits) { index, code in
        if bits < 4 {
          codes[index / 2] |= (code + 8 - half) << (UInt8(truncatingIfNeeded: index) % 2 * 4)
        } else {
          codes[index] = code &- half
        }
      }
      return Bytes(codes)
    }
  }

  /// Packed rows whose column j is the given ones' column `order[j]`.
  static func gather(
    _ packed: [UInt8], rows: Int, columns: Int, bits: Int, _ order: [Int32]
  ) -> [UInt8] {
    var codes = [UInt8](repeating: 0, count: rows * columns)
    unpack(packed, count: codes.count, bits: bits) { codes[$0] = $1 }
    return pack(count: codes.count, bits: bits) { index in
      codes[index / columns * columns + Int(order[index % columns])]
    }
  }

  /// Calls `take` with each code, unsigned.
  static func unpack(
    _ packed: [UInt8], count: Int, bits: Int, take: (_ index: Int, _ code: UInt8) -> Void
  ) {
    precondition(packed.count * 8 >= count * bits, "\(packed.count) bytes of \(count) codes")
    let mask = UInt32(1 << bits - 1)
    var (waiting, held, next) = (UInt32(0), 0, 0)
    for index in 0..<count {
      while held < bits {
        waiting |= UInt32(packed[next]) << UInt32(held)
        held += 8
        next += 1
      }
      take(index, UInt8(truncatingIfNeeded: waiting & mask))
      waiting >>= UInt32(bits)
      held -= bits
    }
  }
}
