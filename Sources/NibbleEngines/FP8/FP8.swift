public import NibbleFormats
import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// Checkpoints with `quant_method: "fp8"`: E4M3 weights and activations, a format begun by AutoFP8
/// and read by vLLM.
///
/// Either weights have one scale each, and activations a dynamic scale per token or a static one
/// per layer; or weights have one scale per block of 128 x 128 and activations one per 128 inputs
/// of a token, which transformers reads too. Where vLLM fuses layers (query, key and value; gate
/// and up) with per-tensor scales, it takes the largest scale and rounds the other weights again.
public struct FP8: Exporter {
  public init() {}

  public var name: String { "fp8" }

  public func faults(in folder: String) -> [String] { EngineContract.writtenFaults(folder) }

  /// Schemes that the format can hold; a model uses one.
  enum Layout: Hashable {
    case tensor(isStatic: Bool)
    case block

    /// Rows and columns of a block: the size for which engines have kernels.
    static let blockSize = 128

    init?(_ scheme: LinearScheme) {
      guard scheme.weights.format == .e4m3 else { return nil }
      let size = Self.blockSize
      switch (scheme.weights.granularity, scheme.activations) {
      case (.tensor, .dynamicPerToken(.e4m3)): self = .tensor(isStatic: false)
      case (.tensor, .staticPerTensor(.e4m3)): self = .tensor(isStatic: true)
      case (.block(size, size), .dynamicPerGroup(.e4m3, size)): self = .block
      default: return nil
      }
    }
  }

  public func scaleFormat(of layer: Plan.Layer) -> FloatFormat { .f32 }

  public func refusals(_ plan: Plan) -> [Refusal] {
    var refusals: [Refusal] = []
    if let layer = plan.layers.first(where: { Layout($0.scheme) == nil }) {
      refusals.append(
        .engine(
          "\(layer.path): the format fp8 holds fp8 e4m3 weights with one scale per tensor or per block of "
            + "\(Layout.blockSize) x \(Layout.blockSize), and fp8 e4m3 activations, not "
            + "\(layer.scheme). Use --recipe fp8 --per tensor or --per block, or --format "
            + "compressed-tensors."))
    } else if let mixed = plan.secondScheme(in: name) {
      refusals.append(mixed)
    }
    if let head = plan.quantizedHead(in: name) { refusals.append(head) }
    // vLLM concatenates these with the layers that follow them, and no block may span two layers.
    let stacked: [Role] = [.query, .key, .gate]
    let uneven = plan.layers.first { layer in
      Layout(layer.scheme) == .block && layer.role.map(stacked.contains) ?? false
        && !layer.outputs.isMultiple(of: Layout.blockSize)
    }
    if let uneven {
      refusals.append(
        .engine(
          "\(uneven.path): vLLM fuses it with the layers that share its inputs, and blocks of "
            + "\(Layout.blockSize) do not divide its \(uneven.outputs) outputs. Use --per tensor."))
    }
    return refusals
  }

  public func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor] {
    func tensor(_ suffix: String, _ dtype: DType, _ shape: [Int]) -> SafetensorsLayout.Tensor {
      SafetensorsLayout.Tensor(name: "\(layer.path).\(suffix)", dtype: dtype, shape: shape)
    }
    let weight = tensor("weight", .f8E4M3, [layer.outputs, layer.inputs])
    switch Layout(layer.scheme) {
    case .block:
      let grid = layer.scheme.weights.grid(outputs: layer.outputs, inputs: layer.inputs)
      return [weight, tensor("weight_scale_inv", .f32, [grid.bands, grid.perRow])]
    case .tensor(isStatic: true):
      return [weight, tensor("weight_scale", .f32, [1]), tensor("input_scale", .f32, [1])]
    case .tensor(isStatic: false), nil: return [weight, tensor("weight_scale", .f32, [1])]
    }
  }

  public func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] {
    let scales = Bytes(FloatFormat.f32.encode(matrix.scales.span))
    // "inv" is only a name: codes are multiplied by it, as by the scale of a tensor.
    let name = Layout(layer.scheme) == .block ? "weight_scale_inv" : "weight_scale"
    var tensors = ["\(layer.path).weight": matrix.codes, "\(layer.path).\(name)": scales]
    if let range = inputs?.range {
      tensors["\(layer.path).input_scale"] = Bytes(FloatFormat.f32.encode([range.scale].span))
    }
    return tensors
  }

  public func config(_ source: JSON, _ plan: Plan) -> JSON {
    let layout = plan.layers.first.flatMap { Layout($0.scheme) }
    var block: JSON = [
      "quant_method": "fp8",
      "activation_scheme": layout == .tensor(isStatic: true) ? "static" : "dynamic",
      "ignored_layers": .array(
        [.string(plan.headPath)] + plan.keptFloat.filter(\.isLinear).map { .string($0.path) }),
    ]
    if plan.recipe.cache?.format == .fp8 { block.set("kv_cache_scheme", "static") }
    if layout == .block {
      block.set("weight_block_size", [JSON(Layout.blockSize), JSON(Layout.blockSize)])
    }
    var config = source
    config.set("quantization_config", block)
    return config
  }
}

extension EngineFormat {
  public static let fp8 = EngineFormat(FP8(), reader: FP8Reader.self)
}
