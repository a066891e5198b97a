public import NibbleFormats
import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// Checkpoints of mlx-lm: integers of 2 to 8 bits or MXFP4 in groups of inputs, float activations.
///
/// A value is `q * scale + bias` with q unsigned. Our symmetric codes have `bias = -2^(bits-1) scale`,
/// which every float format holds exactly. Zero points would need a bias of more bits than the model's
/// format has, so they are refused. Source: mlx 0.32, mlx-lm 0.32; spec/engines.md 2.
public struct MLX: Exporter {
  public init() {}

  public var name: String { MLXReader.method }

  public func faults(in folder: String) -> [String] { EngineContract.writtenFaults(folder) }

  /// Bits per code that mlx has kernels for.
  static let widths: Set<Int> = [2, 3, 4, 5, 6, 8]
  /// Inputs per scale that mlx has kernels for, the largest first.
  private static let groups = [128, 64, 32]
  static let affine = "affine"
  static let microscaled = "mxfp4"

  /// What a layer is in the format; nil if it has no place there.
  struct Setting: Hashable {
    let mode: String
    let bits: Int
    let group: Int
    /// Inputs per scale of the scheme.
    let span: Int

    init?(_ layer: Plan.Layer) {
      let weights = layer.scheme.weights
      guard layer.scheme.activations == nil else { return nil }
      bits = weights.format.numbers.bits
      switch (weights.format, weights.granularity) {
      case (.mxfp4, .group(let size)):
        (mode, group, span) = (MLX.microscaled, size, size)
      case (.int(bits: bits, symmetric: true), .group(let size)) where MLX.groups.contains(size):
        (mode, group, span) = (MLX.affine, size, size)
      case (.int(bits: bits, symmetric: true), .channel):
        guard let size = MLX.groups.first(where: { layer.inputs.isMultiple(of: $0) }) else {
          return nil
        }
        (mode, group, span) = (MLX.affine, size, layer.inputs)
      default: return nil
      }
      guard MLX.widths.contains(bits) else { return nil }
    }

    var json: JSON {
      ["group_size": JSON(group), "bits": JSON(bits), "mode": .string(mode)]
    }
  }

  public func scaleFormat(of layer: Plan.Layer) -> FloatFormat { layer.modelFormat }

  public func refusals(_ plan: Plan) -> [Refusal] {
    let strange = plan.layers.filter { Setting($0) == nil }
    guard let layer = strange.first else { return [] }
    return [
      .engine(
        "\(layer.path)\(strange.count > 1 ? " and \(strange.count - 1) more" : ""): the format mlx holds "
          + "mxfp4 weights and symmetric integers of 2, 3, 4, 5, 6 or 8 bits, in groups of 32, 64 or 128 "
          + "inputs or per channel of a multiple of 32, and float activations, not \(layer.scheme) of "
          + "\(layer.inputs) inputs. Use --recipe w4a16 --group 64.")
    ]
  }

  public func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor] {
    guard let setting = Setting(layer) else { return [] }
    func tensor(_ suffix: String, _ dtype: DType, _ width: Int) -> SafetensorsLayout.Tensor {
      SafetensorsLayout.Tensor(
        name: "\(layer.path).\(suffix)", dtype: dtype, shape: [layer.outputs, width])
    }
    let words = layer.inputs * setting.bits / 32
    let groups = layer.inputs / setting.group
    guard setting.mode == Self.affine else {
      return [tensor("weight", .u32, words), tensor("scales", .u8, groups)]
    }
    let dtype = layer.modelFormat.dtype
    return [
      tensor("weight", .u32, words), tensor("scales", dtype, groups),
      tensor("biases", dtype, groups),
    ]
  }

  public func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] {
    guard let setting = Setting(layer) else { return [:] }
    var tensors = ["\(layer.path).weight": Bytes(DenseCodes.pack(matrix))]
    guard setting.mode == Self.affine else {
      tensors["\(layer.path).scales"] = Bytes(matrix.scaleCodes)
      return tensors
    }
    // One scale per row stands for all of its groups.
    let repeats = setting.span / setting.group
    let scales = matrix.scales.flatMap { [Float](repeating: $0, count: repeats) }
    let half = Float(1 << (setting.bits - 1))
    let biases = scales.map { -half * $0 }
    tensors["\(layer.path).scales"] = Bytes(layer.modelFormat.encode(scales.span))
    tensors["\(layer.path).biases"] = Bytes(layer.modelFormat.encode(biases.span))
    return tensors
  }

  /// The most frequent setting for all layers, and those that differ by path. mlx-lm writes the object
  /// under both keys.
  public func config(_ source: JSON, _ plan: Plan) -> JSON {
    let settings = plan.layers.compactMap { layer in
      Setting(layer).map { (path: layer.path, setting: $0) }
    }
    var counts: [JSON: Int] = [:]
    for (_, setting) in settings { counts[setting.json, default: 0] += 1 }
    let most = counts.values.max() ?? 0
    var quantization =
      settings.first { counts[$0.setting.json] == most }?.setting.json ?? [:]
    let common = quantization
    for (path, setting) in settings where setting.json != common {
      quantization.set(path, setting.json)
    }
    var config = source
    config.set("quantization", quantization)
    config.set("quantization_config", quantization)
    return config
  }
}

extension EngineFormat {
  public static let mlx = EngineFormat(MLX(), reader: MLXReader.self)
}
