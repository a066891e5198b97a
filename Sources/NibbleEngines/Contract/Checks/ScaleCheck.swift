import NibbleFormats

/// FIN: scales are finite and above zero.
enum ScaleCheck {
  /// Tensors of scales, which multiply or divide codes.
  private static let suffixes = [
    "weight_scale", "scales", "weight_scale_inv", "weight_scale_2", "weight_global_scale",
    "input_scale", "input_global_scale", "scale",
  ]

  static func finite(_ facts: CheckpointFacts) -> [Fault] {
    var faults: [Fault] = []
    for linear in facts.sampledLinears {
      guard let module = linear.module, linear.isStoredQuantized else { continue }
      // A scale of MLX may be negative.
      let mayBeNegative = linear.scheme?.layout == .mlx
      for suffix in suffixes {
        guard let tensor = module[suffix] else { continue }
        if tensor.dtype == .f8E4M3 || tensor.dtype == .f8E8M0 || tensor.dtype == .u8 {
          faults += codes(tensor, facts)
          continue
        }
        guard let values = facts.floats(tensor) else { continue }
        if values.contains(where: { !$0.isFinite }) {
          faults.append(Fault(tensor.name, "\(suffix) holds infinity or NaN"))
        } else if !mayBeNegative, values.contains(where: { $0 < 0 }) {
          faults.append(Fault(tensor.name, "\(suffix) holds a negative number"))
        } else if !mayBeNegative, tensor.isScalar, values.contains(0) {
          faults.append(Fault(tensor.name, "\(suffix) is zero"))
        }
      }
    }
    return faults
  }

  /// NaN of an 8-bit scale: 0xFF as a power of two, 0x7F and 0xFF as E4M3.
  private static func codes(_ tensor: StoredTensor, _ facts: CheckpointFacts) -> [Fault] {
    let bytes = facts.rawBytes(tensor) ?? []
    let isNaN: (UInt8) -> Bool = { byte in
      tensor.dtype == .f8E4M3 ? byte & 0x7F == 0x7F : byte == 0xFF
    }
    return bytes.contains(where: isNaN) ? [Fault(tensor.name, "a scale is NaN")] : []
  }
}
