import NibbleFormats
import NibbleQuantize
import NibbleTensor

/// Type of a tensor in the description, with the names of msModelSlim 26.1.0.
enum AscendType: String, CaseIterable {
  case float = "FLOAT"
  /// int8 with one scale per channel; int8 activations with one static affine range.
  case w8a8 = "W8A8"
  /// As W8A8 with few large codes, for compression. It stores no weight scales: `deq_scale` holds
  /// their product with the input scale.
  case w8a8s = "W8A8S"
  /// `W8A8S` with compressed codes.
  case w8a8sc = "W8A8SC"
  /// int8 with one scale per channel; int8 activations with one scale per token.
  case w8a8Dynamic = "W8A8_DYNAMIC"
  /// int8 weights, float activations.
  case w8a16 = "W8A16"
  /// Scales of an int8 cache.
  case c8 = "C8"

  /// Nil when the format cannot hold the layer's scheme.
  init?(_ layer: Plan.Layer) {
    let weights = layer.scheme.weights
    guard weights.format.numbers == .integer(bits: 8) else { return nil }
    let isSymmetric = !weights.hasZeroPoints
    switch (layer.scheme.activations, layer.scheme.weights.granularity, isSymmetric) {
    case (.staticAsymmetric?, .channel, true), (.staticPerTensor(.int8)?, .channel, true):
      self = layer.isSparse ? .w8a8s : .w8a8
    case (.dynamicPerToken(.int8)?, .channel, true): self = .w8a8Dynamic
    case (nil, .channel, _), (nil, .group, _): self = .w8a16
    default: return nil
    }
  }

  /// Tensors of a layer of this type, in the order of the tool's description.
  var suffixes: [String] {
    switch self {
    case .float: ["weight"]
    case .w8a8:
      [
        "weight", "weight_scale", "weight_offset", "input_scale", "input_offset", "quant_bias",
        "deq_scale",
      ]
    case .w8a8s: ["weight", "input_scale", "input_offset", "quant_bias", "deq_scale"]
    case .w8a8sc:
      ["weight", "index", "info", "input_scale", "input_offset", "quant_bias", "deq_scale"]
    case .w8a8Dynamic, .w8a16: ["weight", "weight_scale", "weight_offset"]
    case .c8: ["kv_cache_scale", "kv_cache_offset"]
    }
  }

  /// Type of one tensor of a `W8A8SC` layer: all but the codes keep their previous type.
  func type(of suffix: String) -> AscendType {
    guard self == .w8a8sc, !["weight", "index", "info"].contains(suffix) else { return self }
    return .w8a8s
  }

  /// Form in file names and in config.json.
  var fileName: String { rawValue.lowercased() }
}

/// Dequantization constants of a layer with static input ranges.
///
/// `y = (Σ_k x_q q + quant_bias) · deq_scale`, with `x_q` from `input_scale` and `input_offset`.
struct AscendDequantization: Hashable, Sendable {
  var inputs: InputRange
  /// `[n]`, `input_scale · weight_scale` in float32.
  var deqScale: [Float]
  /// `[n]`, `round(bias / deq_scale - input_offset · Σ_k q)`, half to even, in float32 but for the
  /// product of integers.
  var quantBias: [Int32]

  init(inputs: InputRange, deqScale: [Float], quantBias: [Int32]) {
    self.inputs = inputs
    self.deqScale = deqScale
    self.quantBias = quantBias
  }

  init(_ matrix: QuantizedMatrix, bias: [Float]?, inputs: InputRange) {
    self.inputs = inputs
    let deqScale = matrix.scales.map { max(inputs.scale * $0, .leastNormalMagnitude) }
    self.deqScale = deqScale
    quantBias = matrix.rowSums.enumerated().map { row, sum in
      let offset = -Int(inputs.zero) * sum
      guard let bias else { return Int32(clamping: offset) }
      let exact = (bias[row] / deqScale[row] + Float(offset)).rounded(.toNearestOrEven)
      return Int32(max(-0x1p30, min(0x1p30, exact)))
    }
  }

  /// Scale of each row's codes: the float nearest to `deq_scale / input_scale` whose product with
  /// `input_scale` gives `deq_scale` again, if there is one.
  var weightScales: [Float] {
    deqScale.map { deq in
      let scale = max(deq / inputs.scale, .leastNormalMagnitude)
      return [scale, scale.nextUp, scale.nextDown].first { $0 * inputs.scale == deq } ?? scale
    }
  }

  /// Bias of a layer with these codes when the zero point is subtracted from the inputs; nil if
  /// zero.
  ///
  /// - Parameter rowSums: `[n]`, sums of the codes per row.
  func bias(rowSums: [Int]) -> [Float]? {
    let bias = rowSums.indices.map { row in
      Float(Int(quantBias[row]) + Int(inputs.zero) * rowSums[row]) * deqScale[row]
    }
    return bias.contains { $0 != 0 } ? bias : nil
  }
}
