// Blocks of 32. Byte j of the nibbles holds element j in its low half and element j + 16 in its
// high half.

/// `d` f16, 16 bytes of nibbles: `x = d * (q - 8)`.
func decodeQ40(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  for index in 0..<values.count / 32 {
    let block = bytes.block(index, 18)
    let d = block.half(0)
    for j in 0..<16 {
      let q = block[2 + j]
      values[32 * index + j] = d * Float(Int32(q & 15) - 8)
      values[32 * index + j + 16] = d * Float(Int32(q >> 4) - 8)
    }
  }
}

/// `d` f16, `m` f16, 16 bytes of nibbles: `x = d * q + m`.
func decodeQ41(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  for index in 0..<values.count / 32 {
    let block = bytes.block(index, 20)
    let d = block.half(0)
    let m = block.half(2)
    for j in 0..<16 {
      let q = block[4 + j]
      values[32 * index + j] = d * Float(q & 15) + m
      values[32 * index + j + 16] = d * Float(q >> 4) + m
    }
  }
}

/// `d` f16, the fifth bits as u32, 16 bytes of nibbles: `x = d * (q - 16)`.
func decodeQ50(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  for index in 0..<values.count / 32 {
    let block = bytes.block(index, 22)
    let d = block.half(0)
    let high = block.u32(2)
    for j in 0..<16 {
      let q = UInt32(block[6 + j])
      let low = q & 15 | (high >> UInt32(j) & 1) << 4
      let up = q >> 4 | (high >> UInt32(j + 16) & 1) << 4
      values[32 * index + j] = d * Float(Int32(low) - 16)
      values[32 * index + j + 16] = d * Float(Int32(up) - 16)
    }
  }
}

/// `d` f16, `m` f16, the fifth bits as u32, 16 bytes of nibbles: `x = d * q + m`.
func decodeQ51(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  for index in 0..<values.count / 32 {
    let block = bytes.block(index, 24)
    let d = block.half(0)
    let m = block.half(2)
    let high = block.u32(4)
    for j in 0..<16 {
      let q = UInt32(block[8 + j])
      let low = q & 15 | (high >> UInt32(j) & 1) << 4
      let up = q >> 4 | (high >> UInt32(j + 16) & 1) << 4
      values[32 * index + j] = d * Float(low) + m
      values[32 * index + j + 16] = d * Float(up) + m
    }
  }
}

/// `d` f16, 32 codes of i8: `x = d * q`.
func decodeQ80(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  for index in 0..<values.count / 32 {
    let block = bytes.block(index, 34)
    let d = block.half(0)
    for j in 0..<32 { values[32 * index + j] = d * Float(Int8(bitPattern: block[2 + j])) }
  }
}
