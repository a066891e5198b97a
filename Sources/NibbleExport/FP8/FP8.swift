public import NibbleFormats
import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// Checkpoints with `quant_method: "fp8"`: E4M3 weights and activations, as AutoFP8 began them and
/// vLLM reads them.
///
/// One scale a weight. Activations have dynamic scales, which the engine finds a token or a tensor at
/// a time, as its kernels go. Where vLLM fuses layers (query, key and value; gate and up) it takes the
/// largest of their scales and rounds the others' weights once more.
public struct FP8: Exporter {
  public init() {}

  public var name: String { "fp8" }

  public func scaleFormat(of layer: Plan.Layer) -> FloatFormat { .f32 }

  public func refusals(_ plan: Plan) -> [Refusal] {
    let scheme = plan.recipe.scheme
    var refusals: [Refusal] = []
    if scheme.weights != WeightScheme(format: .e4m3, granularity: .tensor)
      || scheme.activations != .dynamicPerToken(.e4m3)
    {
      refusals.append(
        .engine(
          "the format fp8 holds fp8 e4m3 weights, one scale a tensor, with fp8 e4m3 activations, not "
            + "\(scheme). Use --recipe fp8 --per tensor, or --format compressed-tensors."))
    }
    if let head = plan.layers.first(where: { $0.path == "lm_head" }) {
      refusals.append(
        .engine(
          "\(head.path): engines read a float head beside fp8 weights. Leave out --quantize-head."))
    }
    return refusals
  }

  public func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor] {
    [
      SafetensorsLayout.Tensor(
        name: "\(layer.path).weight", dtype: .f8E4M3, shape: [layer.outputs, layer.inputs]),
      SafetensorsLayout.Tensor(name: "\(layer.path).weight_scale", dtype: .f32, shape: [1]),
    ]
  }

  public func encode(_ matrix: QuantizedMatrix, of layer: Plan.Layer) -> [String: Bytes] {
    [
      "\(layer.path).weight": matrix.codes,
      "\(layer.path).weight_scale": Bytes(FloatFormat.f32.encode(matrix.scales.span)),
    ]
  }

  public func config(_ source: JSON, _ plan: Plan) -> JSON {
    var config = source
    config.set(
      "quantization_config",
      [
        "quant_method": "fp8", "activation_scheme": "dynamic",
        "ignored_layers": .array(
          ["lm_head"] + plan.keptFloat.filter(\.isLinear).map { .string($0.path) }),
      ])
    return config
  }
}
