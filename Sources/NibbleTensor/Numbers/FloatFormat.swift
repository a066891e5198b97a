import CNibble

/// Float formats of weights on disk.
public enum FloatFormat: String, Sendable, Hashable, Codable, CaseIterable {
  case f32
  case f16
  case bf16

  public var bytesPerValue: Int { self == .f32 ? 4 : 2 }

  /// Widens `values` to float, exactly.
  ///
  /// - Precondition: `values` holds `floats.count` values; any alignment.
  func widen(_ values: UnsafeRawPointer, into floats: UnsafeMutablePointer<Float>, count: Int) {
    switch self {
    case .f32: unsafe UnsafeMutableRawPointer(floats).copyMemory(from: values, byteCount: 4 * count)
    case .f16: unsafe nibble_f16_to_f32(values, floats, count)
    case .bf16: unsafe nibble_bf16_to_f32(values, floats, count)
    }
  }

  /// Widens to floats, exactly.
  public func decode(_ bytes: Bytes) -> [Float] {
    let count = bytes.count / bytesPerValue
    return unsafe [Float](unsafeUninitializedCapacity: count) { floats, initialized in
      if count > 0 {
        unsafe bytes.withUnsafeBytes {
          unsafe widen($0.baseAddress!, into: floats.baseAddress!, count: count)
        }
      }
      initialized = count
    }
  }

  /// Index of the first value that is infinite or not a number.
  public func firstNonFinite(in bytes: Bytes) -> Int? {
    let step = 1 << 16
    for start in stride(from: 0, to: bytes.count / bytesPerValue, by: step) {
      let end = min(bytes.count / bytesPerValue, start + step)
      let values = decode(bytes[start * bytesPerValue..<end * bytesPerValue])
      let peak = unsafe values.withUnsafeBufferPointer {
        unsafe nibble_absmax($0.baseAddress!, values.count)
      }
      if !peak.isFinite { return values.firstIndex { !$0.isFinite }.map { start + $0 } }
    }
    return nil
  }

  /// Rounds floats to this format, half to even; a value beyond its range becomes infinite.
  public func encode(_ floats: Span<Float>) -> [UInt8] {
    let count = floats.count
    return unsafe [UInt8](unsafeUninitializedCapacity: count * bytesPerValue) {
      bytes, initialized in
      unsafe floats.withUnsafeBufferPointer { source in
        guard let from = source.baseAddress else { return }
        let to = UnsafeMutableRawPointer(bytes.baseAddress!)
        switch self {
        case .f32: unsafe to.copyMemory(from: from, byteCount: 4 * count)
        case .f16:
          unsafe nibble_f32_to_f16(from, to.assumingMemoryBound(to: UInt16.self), count)
        case .bf16:
          unsafe nibble_f32_to_bf16(from, to.assumingMemoryBound(to: UInt16.self), count)
        }
      }
      initialized = count * bytesPerValue
    }
  }

  /// `value` rounded to this format.
  public func round(_ value: Float) -> Float {
    // Called once per group of a weight, so it uses the stack.
    var (value, half): (Float, UInt16) = (value, 0)
    switch self {
    case .f32: break
    case .f16:
      unsafe nibble_f32_to_f16(&value, &half, 1)
      unsafe nibble_f16_to_f32(&half, &value, 1)
    case .bf16:
      unsafe nibble_f32_to_bf16(&value, &half, 1)
      unsafe nibble_bf16_to_f32(&half, &value, 1)
    }
    return value
  }
}
