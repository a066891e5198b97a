/// Widens blocks of a ggml type to `Float`.
///
/// Gives exactly the values of gguf 0.19.0 `quants.dequantize`: every product and sum is rounded to
/// `Float` in the order of the formulas. Infinite and NaN scales pass through.
///
/// - Parameters:
///   - bytes: whole blocks.
///   - values: `[blocks * type.blockElements]`, overwritten.
/// - Throws: `FormatError.undecodable` for a type without a decoder here.
public func decode(
  _ type: GGMLType, _ bytes: Span<UInt8>, into values: inout MutableSpan<Float>
) throws(FormatError) {
  precondition(
    bytes.count == type.byteCount(values.count),
    "\(bytes.count) bytes for \(values.count) values of \(type.name)")
  switch type {
  case .f32: decodeF32(bytes, &values)
  case .f16: decodeF16(bytes, &values)
  case .bf16: decodeBF16(bytes, &values)
  case .q40: decodeQ40(bytes, &values)
  case .q41: decodeQ41(bytes, &values)
  case .q50: decodeQ50(bytes, &values)
  case .q51: decodeQ51(bytes, &values)
  case .q80: decodeQ80(bytes, &values)
  case .q4K: decodeQ4K(bytes, &values)
  case .q5K: decodeQ5K(bytes, &values)
  case .q6K: decodeQ6K(bytes, &values)
  default: throw .undecodable(type)
  }
}

extension GGMLType {
  /// Whether `decode` supports this type.
  public var isDecodable: Bool {
    switch self {
    case .f32, .f16, .bf16, .q40, .q41, .q50, .q51, .q80, .q4K, .q5K, .q6K: true
    default: false
    }
  }
}

/// The value of a half float's bits; `Float16` does not exist on every Mac.
///
/// Exact. The exponent's bias moves from 15 to 127; no step uses a subnormal `Float`, which some
/// processors handle a hundred times slower.
@inline(__always)
func float(half bits: UInt16) -> Float {
  let magnitude = UInt32(bits & 0x7FFF)
  let subnormal = (Float(Int32(bitPattern: magnitude)) * 0x1p-24).bitPattern
  let bias: UInt32 = magnitude < 0x7C00 ? 112 << 23 : 224 << 23
  let normal = magnitude << 13 &+ bias
  let sign = UInt32(bits & 0x8000) << 16
  return Float(bitPattern: (magnitude < 0x0400 ? subnormal : normal) | sign)
}

extension Span<UInt8> {
  @inline(__always)
  func u16(_ at: Int) -> UInt16 { UInt16(self[at]) | UInt16(self[at + 1]) << 8 }

  @inline(__always)
  func u32(_ at: Int) -> UInt32 { UInt32(u16(at)) | UInt32(u16(at + 2)) << 16 }

  @inline(__always)
  func half(_ at: Int) -> Float { float(half: u16(at)) }

  /// Block `index` of blocks of `size` bytes.
  @inline(__always)
  @_lifetime(copy self)
  func block(_ index: Int, _ size: Int) -> Span<UInt8> {
    extracting(index * size..<(index + 1) * size)
  }
}

// In runs of 32, for which bounds are checked once; the rest one by one.

private func decodeF32(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  let runs = values.count / 32
  for index in 0..<runs {
    let run = bytes.block(index, 128)
    for k in 0..<32 { values[32 * index + k] = Float(bitPattern: run.u32(4 * k)) }
  }
  for k in 32 * runs..<values.count { values[k] = Float(bitPattern: bytes.u32(4 * k)) }
}

private func decodeF16(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  let runs = values.count / 32
  for index in 0..<runs {
    let run = bytes.block(index, 64)
    for k in 0..<32 { values[32 * index + k] = run.half(2 * k) }
  }
  for k in 32 * runs..<values.count { values[k] = bytes.half(2 * k) }
}

private func decodeBF16(_ bytes: Span<UInt8>, _ values: inout MutableSpan<Float>) {
  for k in values.indices { values[k] = Float(bitPattern: UInt32(bytes.u16(2 * k)) << 16) }
}
