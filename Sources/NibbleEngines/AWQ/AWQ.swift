public import NibbleFormats
import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// Checkpoints with `quant_method: "awq"`, version `gemm`: int4 weights with zero points, in groups of
/// inputs, float activations.
///
/// The layout is AutoAWQ 0.2.9's, which vLLM, transformers and lmdeploy read; lmdeploy takes groups
/// of 128 only. The name refers to the layout, not to the method that chose the codes. Engines
/// compute it in float16, so the config says float16 whatever the source was.
public struct AWQ: Exporter {
  public init() {}

  public var name: String { "awq" }

  public func faults(in folder: String) -> [String] { EngineContract.writtenFaults(folder) }

  public func scaleFormat(of layer: Plan.Layer) -> FloatFormat { .f16 }

  public func refusals(_ plan: Plan) -> [Refusal] {
    var refusals: [Refusal] = []
    if let layer = plan.layers.first(where: { Self.group($0.scheme) == nil }) {
      refusals.append(
        .engine(
          "\(layer.path): the format awq holds int4 weights with zero points, in groups, and float "
            + "activations, not \(layer.scheme). Use --recipe w4a16 --asymmetric, or --format "
            + "compressed-tensors."))
    } else if let mixed = plan.secondScheme(in: name) {
      refusals.append(mixed)
    }
    let uneven = plan.layers.filter { !$0.outputs.isMultiple(of: InterleavedCodes.perWord) }
    if let layer = uneven.first {
      refusals.append(
        .engine(
          "\(layer.path)\(uneven.count > 1 ? " and \(uneven.count - 1) more" : ""): the format awq "
            + "packs \(InterleavedCodes.perWord) outputs a word, and \(layer.outputs) do not fill "
            + "whole words. Use --format compressed-tensors."))
    }
    if let head = plan.quantizedHead(in: name) { refusals.append(head) }
    // Engines match these names anywhere in a layer's path.
    for kept in plan.keptFloat where kept.isLinear {
      if let layer = plan.layers.first(where: { $0.path.contains(kept.path) }) {
        refusals.append(
          .engine(
            "\(kept.path) stays float, and the format awq cannot say so without also naming "
              + "\(layer.path). Use --format compressed-tensors."))
      }
    }
    return refusals
  }

  /// Inputs per scale; nil for a scheme that the format cannot hold.
  private static func group(_ scheme: LinearScheme) -> Int? {
    guard scheme.weights.format == .int(bits: 4, symmetric: false), scheme.activations == nil,
      case .group(let size) = scheme.weights.granularity
    else { return nil }
    return size
  }

  public func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor] {
    let groups = layer.scheme.weights.scalesPerRow(inputs: layer.inputs)
    let words = (layer.outputs + InterleavedCodes.perWord - 1) / InterleavedCodes.perWord
    func tensor(_ suffix: String, _ dtype: DType, _ shape: [Int]) -> SafetensorsLayout.Tensor {
      SafetensorsLayout.Tensor(name: "\(layer.path).\(suffix)", dtype: dtype, shape: shape)
    }
    return [
      tensor("qweight", .i32, [layer.inputs, words]),
      tensor("qzeros", .i32, [groups, words]),
      tensor("scales", .f16, [groups, layer.outputs]),
    ]
  }

  public func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] {
    let groups = matrix.zeroPoints.count / max(1, matrix.rows)
    let scales = transposed(matrix.scales, rows: matrix.rows, columns: groups)
    return [
      "\(layer.path).qweight": InterleavedCodes.pack(matrix),
      "\(layer.path).qzeros": InterleavedCodes.pack(
        zeroPoints: matrix.zeroPoints, outputs: matrix.rows, groups: groups),
      "\(layer.path).scales": Bytes(FloatFormat.f16.encode(scales.span)),
    ]
  }

  public func config(_ source: JSON, _ plan: Plan) -> JSON {
    var config = source
    let group = plan.layers.first.flatMap { Self.group($0.scheme) } ?? -1
    let kept = plan.keptFloat.filter(\.isLinear)
    config.set(
      "quantization_config",
      [
        "quant_method": "awq", "version": "gemm", "bits": 4, "group_size": JSON(group),
        "zero_point": true,
        "modules_to_not_convert": kept.isEmpty
          ? .null : .array(kept.map { .string($0.path) }),
      ])
    if config["dtype"] != nil { config.set("dtype", "float16") }
    if config["torch_dtype"] != nil || config["dtype"] == nil {
      config.set("torch_dtype", "float16")
    }
    return config
  }
}

extension EngineFormat {
  public static let awq = EngineFormat(AWQ(), reader: AWQReader.self)
}

/// Transposes `[rows, columns]` to `[columns, rows]`.
func transposed<Value>(_ values: [Value], rows: Int, columns: Int) -> [Value] {
  var result: [Value] = []
  result.reserveCapacity(values.count)
  for column in 0..<columns {
    for row in 0..<rows { result.append(values[row * columns + column]) }
  }
  return result
}
