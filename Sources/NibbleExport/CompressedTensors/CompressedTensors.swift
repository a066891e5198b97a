public import NibbleFormats
import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// Checkpoints with `quant_method: "compressed-tensors"`, as vLLM and transformers read them.
///
/// Written for compressed-tensors 0.20, vLLM 0.32 and transformers 5.23.
public struct CompressedTensors: Exporter {
  public static let packageVersion = "0.20.0"

  public init() {}

  public var name: String { "compressed-tensors" }

  /// How codes lie on disk.
  public enum Layout: String, Sendable {
    /// int8 `weight`, one scale a channel or tensor.
    case intQuantized = "int-quantized"
    /// E4M3 `weight`, one scale a channel or tensor.
    case floatQuantized = "float-quantized"
    /// Codes packed into int32 words along the inputs.
    case packQuantized = "pack-quantized"
  }

  public static func layout(_ scheme: LinearScheme) -> Layout {
    switch scheme.weights.format {
    case .e4m3: .floatQuantized
    case .int: scheme.activations == nil ? .packQuantized : .intQuantized
    }
  }

  /// Packed weights go with scales in the model's format; the others are most accurate in float.
  public func scaleFormat(of layer: Plan.Layer) -> FloatFormat {
    Self.layout(layer.scheme) == .packQuantized ? layer.modelFormat : .f32
  }

  public func refusals(_ plan: Plan) -> [Refusal] { [] }

  public func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor] {
    let weights = layer.scheme.weights
    let (n, k) = (layer.outputs, layer.inputs)
    let scaleShape =
      weights.granularity == .tensor ? [1] : [n, max(1, weights.scalesPerRow(inputs: k))]
    func tensor(_ suffix: String, _ dtype: DType, _ shape: [Int]) -> SafetensorsLayout.Tensor {
      SafetensorsLayout.Tensor(name: "\(layer.path).\(suffix)", dtype: dtype, shape: shape)
    }
    let scale = tensor("weight_scale", scaleFormat(of: layer).dtype, scaleShape)
    switch Self.layout(layer.scheme) {
    case .intQuantized: return [tensor("weight", .i8, [n, k]), scale]
    case .floatQuantized: return [tensor("weight", .f8E4M3, [n, k]), scale]
    case .packQuantized:
      var tensors = [
        tensor("weight_packed", .i32, [n, (k * weights.bits + 31) / 32]), scale,
        tensor("weight_shape", .i64, [2]),
      ]
      if weights.hasZeroPoints {
        tensors.append(
          tensor("weight_zero_point", .i32, [(n * weights.bits + 31) / 32, scaleShape.last ?? 1]))
      }
      return tensors
    }
  }

  public func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] {
    let scales = Bytes(scaleFormat(of: layer).encode(matrix.scales.span))
    switch Self.layout(layer.scheme) {
    case .intQuantized, .floatQuantized:
      return ["\(layer.path).weight": matrix.codes, "\(layer.path).weight_scale": scales]
    case .packQuantized:
      var tensors = [
        "\(layer.path).weight_packed": PackedCodes.pack(matrix),
        "\(layer.path).weight_scale": scales,
        "\(layer.path).weight_shape": PackedCodes.shape([matrix.rows, matrix.columns]),
      ]
      if !matrix.zeroPoints.isEmpty {
        tensors["\(layer.path).weight_zero_point"] = PackedCodes.packZeroPoints(matrix)
      }
      return tensors
    }
  }

  public func config(_ source: JSON, _ plan: Plan) -> JSON {
    var config = source
    let scheme = plan.recipe.scheme
    let format = JSON.string(Self.layout(scheme).rawValue)
    let quantizesHead = plan.layers.contains { $0.path == "lm_head" }
    config.set(
      "quantization_config",
      [
        "quant_method": "compressed-tensors",
        "format": format,
        "quantization_status": "compressed",
        "config_groups": [
          "group_0": [
            "targets": ["Linear"],
            "weights": Self.arguments(scheme.weights),
            "input_activations": scheme.activations.map(Self.arguments) ?? .null,
            "output_activations": .null,
            "format": format,
          ]
        ],
        "kv_cache_scheme": .null,
        "ignore": .array(
          (quantizesHead ? [] : ["lm_head"])
            + plan.keptFloat.filter { $0.isLinear }.map { .string($0.path) }),
        "global_compression_ratio": .null,
        "version": .string(Self.packageVersion),
      ])
    return config
  }

  private static func arguments(_ scheme: WeightScheme) -> JSON {
    let (bits, type, symmetric): (Int, String, Bool) =
      switch scheme.format {
      case .int(let bits, let symmetric): (bits, "int", symmetric)
      case .e4m3: (8, "float", true)
      }
    let (strategy, group): (String, JSON) =
      switch scheme.granularity {
      case .tensor: ("tensor", .null)
      case .channel: ("channel", .null)
      case .group(let size): ("group", JSON(size))
      case .block: ("block", .null)
      case .rowGroups: ("channel", .null)
      }
    return [
      "num_bits": JSON(bits), "type": .string(type), "symmetric": .bool(symmetric),
      "strategy": .string(strategy), "dynamic": false, "group_size": group,
    ]
  }

  private static func arguments(_ scheme: ActivationScheme) -> JSON {
    [
      "num_bits": 8, "type": scheme.format == .int8 ? "int" : "float", "symmetric": true,
      "strategy": "token", "dynamic": true, "group_size": .null,
    ]
  }
}
