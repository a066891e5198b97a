import NibbleFormats
import NibbleTensor

/// A tensor as a header describes it.
struct StoredTensor: Hashable {
  var name: String
  var dtype: DType
  var shape: [Int]

  var isFloat: Bool { [.f16, .bf16, .f32, .f64].contains(dtype) }
  /// Whether it holds one number.
  var isScalar: Bool { shape.allSatisfy { $0 == 1 } }
  var rows: Int { shape.first ?? 1 }
  var columns: Int { shape.count > 1 ? shape[shape.count - 1] : 1 }
}

/// The tensors of one module: those whose names differ in the last component only.
struct StoredModule: Hashable {
  var path: String
  /// By the last component of their names.
  var tensors: [String: StoredTensor] = [:]

  subscript(suffix: String) -> StoredTensor? { tensors[suffix] }

  /// Suffixes of the tensors that quantized linear layers have beside `weight` and `bias`.
  static let quantized: Set<String> = [
    "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_global_scale",
    "weight_g_idx", "input_scale", "input_zero_point", "input_global_scale", "qweight", "qzeros",
    "scales", "g_idx", "weight_scale_inv", "weight_scale_2", "pre_quant_scale", "biases", "scale",
    "weight_offset", "input_offset", "quant_bias", "deq_scale",
  ]

  /// Whether its weight is stored in codes.
  var isQuantized: Bool {
    let marks = ["qweight", "weight_packed", "weight_scale", "weight_scale_inv", "weight_scale_2"]
    if marks.contains(where: { tensors[$0] != nil }) { return true }
    if let weight = tensors["weight"], !weight.isFloat, weight.dtype != .bool { return true }
    return tensors["scales"] != nil && tensors["weight"] != nil
  }

  /// Whether it has a weight as a float model stores it.
  var isFloatLinear: Bool {
    !isQuantized && (tensors["weight"].map { $0.isFloat && $0.shape.count == 2 } ?? false)
  }

  /// Last component of the path.
  var name: String { Self.lastComponent(of: path) }

  static func lastComponent(of path: String) -> String {
    path.lastIndex(of: ".").map { String(path[path.index(after: $0)...]) } ?? path
  }

  static func parent(of path: String) -> String {
    path.lastIndex(of: ".").map { String(path[..<$0]) } ?? ""
  }
}
