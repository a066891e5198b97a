/// How the blocks of a ggml type are codes with scales: `x = scale * code + minimum`.
///
/// A type without minimums has codes around `2^(bits-1)`: its minimum is `-2^(bits-1) * scale`.
public struct GGMLCodes: Hashable, Sendable {
  /// Bits of a code, which is unsigned.
  public let bits: Int
  /// Values per scale.
  public let group: Int
  public let hasMinimums: Bool

  /// Nil for floats, and for types that Nibble does not decode.
  public init?(_ type: GGMLType) {
    switch type {
    case .q40: (bits, group, hasMinimums) = (4, 32, false)
    case .q41, .q4K: (bits, group, hasMinimums) = (4, 32, true)
    case .q50: (bits, group, hasMinimums) = (5, 32, false)
    case .q51, .q5K: (bits, group, hasMinimums) = (5, 32, true)
    case .q6K: (bits, group, hasMinimums) = (6, 16, false)
    case .q80: (bits, group, hasMinimums) = (8, 32, false)
    default: return nil
    }
  }
}

extension GGMLCodes {
  /// Takes blocks apart. Scales and minimums are exact: products of a half float and at most eight bits.
  ///
  /// - Parameters:
  ///   - bytes: whole blocks of `type`.
  ///   - codes: one per value, unsigned, overwritten.
  ///   - scales: `[values / group]`, overwritten.
  ///   - minimums: `[values / group]`, overwritten for types that have them.
  public static func unpack(
    _ type: GGMLType, _ bytes: Span<UInt8>, _ codes: inout MutableSpan<UInt8>,
    _ scales: inout MutableSpan<Float>, _ minimums: inout MutableSpan<Float>
  ) {
    precondition(GGMLCodes(type) != nil, "\(type.name) has no codes")
    precondition(bytes.count == type.byteCount(codes.count), "\(bytes.count) bytes, \(codes.count)")
    let size = type.blockBytes
    for index in 0..<codes.count / type.blockElements {
      let block = bytes.block(index, size)
      switch type {
      case .q40, .q41, .q50, .q51, .q80:
        let hasMinimum = type == .q41 || type == .q51
        scales[index] = block.half(0)
        if hasMinimum { minimums[index] = block.half(2) }
        let start = hasMinimum ? 4 : 2
        if type == .q80 {
          for j in 0..<32 { codes[32 * index + j] = block[start + j] ^ 0x80 }
        } else {
          let hasFifth = type == .q50 || type == .q51
          let fifth = hasFifth ? block.u32(start) : 0
          unpackHalves(block, start + (hasFifth ? 4 : 0), fifth, &codes, 32 * index)
        }
      case .q4K, .q5K:
        let (d, dmin) = (block.half(0), block.half(2))
        for sub in 0..<8 {
          let (scale, minimum) = scaleAndMinimum(block, 4, sub)
          scales[8 * index + sub] = d * scale
          minimums[8 * index + sub] = -(dmin * minimum)
          let start = (type == .q4K ? 16 : 48) + 32 * (sub / 2)
          for l in 0..<32 {
            let fifth = type == .q4K ? 0 : block[16 + l] >> UInt8(sub) & 1
            codes[256 * index + 32 * sub + l] =
              block[start + l] >> UInt8(sub % 2 * 4) & 15 | fifth << 4
          }
        }
      default:
        let d = block.half(208)
        for group in 0..<16 {
          scales[16 * index + group] = d * Float(Int8(bitPattern: block[192 + group]))
        }
        for element in 0..<256 {
          let (half, within) = (element / 128, element % 128)
          let low = block[64 * half + within % 64] >> UInt8(within / 64 * 4) & 15
          let high = block[128 + 32 * half + within % 32] >> UInt8(within / 32 * 2) & 3
          codes[256 * index + element] = low | high << 4
        }
      }
    }
  }

  /// Codes of a block of 32: byte j holds element j in its low half and element j + 16 in its high
  /// half; bit j of `fifth` is the fifth bit of element j.
  @inline(__always)
  private static func unpackHalves(
    _ block: Span<UInt8>, _ start: Int, _ fifth: UInt32, _ codes: inout MutableSpan<UInt8>,
    _ at: Int
  ) {
    for j in 0..<16 {
      codes[at + j] = block[start + j] & 15 | UInt8(fifth >> UInt32(j) & 1) << 4
      codes[at + j + 16] = block[start + j] >> 4 | UInt8(fifth >> UInt32(j + 16) & 1) << 4
    }
  }
}
