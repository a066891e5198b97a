// Blocks of 256, the "k-quants": sub-blocks have their own scales, in units of the block's.

/// The 6-bit scale and minimum of sub-block `j` of 8, packed in 12 bytes from `start`.
@inline(__always)
func scaleAndMinimum(_ block: Span<UInt8>, _ start: Int, _ j: Int) -> (Float, Float) {
  if j < 4 {
    return (Float(block[start + j] & 63), Float(block[start + j + 4] & 63))
  }
  let scale = block[start + j + 4] & 15 | (block[start + j - 4] >> 6) << 4
  let minimum = block[start + j + 4] >> 4 | (block[start + j] >> 6) << 4
  return (Float(scale), Float(minimum))
}

/// `d` f16, `dmin` f16, 12 bytes of scales, 128 of nibbles: `x = d * sc * q - dmin * mn`.
///
/// Bytes 32c..<32c+32 hold sub-block 2c in their low halves and 2c + 1 in their high halves.
func decodeQ4K(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  for index in 0..<values.count / 256 {
    let block = bytes.block(index, 144)
    let d = block.half(0)
    let dmin = block.half(2)
    for c in 0..<4 {
      let (sc0, mn0) = scaleAndMinimum(block, 4, 2 * c)
      let (sc1, mn1) = scaleAndMinimum(block, 4, 2 * c + 1)
      let (d0, m0, d1, m1) = (d * sc0, dmin * mn0, d * sc1, dmin * mn1)
      let first = 256 * index + 64 * c
      for l in 0..<32 {
        let q = block[16 + 32 * c + l]
        values[first + l] = d0 * Float(q & 15) - m0
        values[first + 32 + l] = d1 * Float(q >> 4) - m1
      }
    }
  }
}

/// Q4_K with 32 bytes of fifth bits before the nibbles: bit `s` of byte `l` is element `l` of
/// sub-block `s`.
func decodeQ5K(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  for index in 0..<values.count / 256 {
    let block = bytes.block(index, 176)
    let d = block.half(0)
    let dmin = block.half(2)
    for c in 0..<4 {
      let (sc0, mn0) = scaleAndMinimum(block, 4, 2 * c)
      let (sc1, mn1) = scaleAndMinimum(block, 4, 2 * c + 1)
      let (d0, m0, d1, m1) = (d * sc0, dmin * mn0, d * sc1, dmin * mn1)
      let first = 256 * index + 64 * c
      for l in 0..<32 {
        let q = block[48 + 32 * c + l]
        let high = block[16 + l] >> UInt8(2 * c)
        values[first + l] = d0 * Float(q & 15 | (high & 1) << 4) - m0
        values[first + 32 + l] = d1 * Float(q >> 4 | (high >> 1 & 1) << 4) - m1
      }
    }
  }
}

/// 128 bytes of low nibbles, 64 of bits 4 and 5, 16 scales of i8, `d` f16:
/// `x = d * scale[e / 16] * (q - 32)`.
func decodeQ6K(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  for index in 0..<values.count / 256 {
    let block = bytes.block(index, 210)
    let d = block.half(208)
    for half in 0..<2 {
      for l in 0..<32 {
        let (low0, low1) = (block[64 * half + l], block[64 * half + 32 + l])
        let high = block[128 + 32 * half + l]
        let first = 128 * half + l
        let codes = (
          low0 & 15 | (high & 3) << 4, low1 & 15 | (high >> 2 & 3) << 4,
          low0 >> 4 | (high >> 4 & 3) << 4, low1 >> 4 | (high >> 6) << 4
        )
        let scale = 192 + 8 * half + l / 16
        let at = 256 * index + first
        values[at] = sixBits(codes.0, block[scale], d)
        values[at + 32] = sixBits(codes.1, block[scale + 2], d)
        values[at + 64] = sixBits(codes.2, block[scale + 4], d)
        values[at + 96] = sixBits(codes.3, block[scale + 6], d)
      }
    }
  }
}

@inline(__always)
private func sixBits(_ code: UInt8, _ scale: UInt8, _ d: Float) -> Float {
  d * Float(Int8(bitPattern: scale)) * Float(Int32(code) - 32)
}
