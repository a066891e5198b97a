public import NibbleFormats
import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// Checkpoints with `quant_method: "gptq"`: int4 or int8 weights per channel or in groups of inputs,
/// float activations. The name refers to the layout, not to the method that chose the codes.
///
/// Symmetric codes are written as `gptq` (version 1), where stored zero points are one too small;
/// codes with zero points as `gptq_v2`, since a zero point of 0 has no place in version 1. Inputs stay
/// in their order: `g_idx` is `k / group`. Source: AutoGPTQ 0.7.1, GPTQModel 7.7; spec/engines.md 1.
public struct GPTQ: Exporter {
  public init() {}

  public var name: String { GPTQReader.method }

  public func faults(in folder: String) -> [String] { EngineContract.writtenFaults(folder) }

  public func scaleFormat(of layer: Plan.Layer) -> FloatFormat { .f16 }

  /// What a scheme is in the format; nil if it has no place there.
  private struct Setting: Hashable {
    let bits: Int
    let symmetric: Bool
    /// Inputs per scale; -1 for one scale per output.
    let group: Int

    init?(_ scheme: LinearScheme) {
      guard case .integer(let bits) = scheme.weights.format.numbers, bits == 4 || bits == 8,
        !scheme.weights.format.hasOffsets, scheme.activations == nil
      else { return nil }
      switch scheme.weights.granularity {
      case .channel: group = -1
      case .group(let size): group = size
      case .tensor, .block, .rowGroups: return nil
      }
      (self.bits, symmetric) = (bits, !scheme.weights.hasZeroPoints)
    }
  }

  /// Inputs and outputs come in multiples of this, so that words of every width are whole.
  private static let unit = 32

  public func refusals(_ plan: Plan) -> [Refusal] {
    var refusals: [Refusal] = []
    if let layer = plan.layers.first(where: { Setting($0.scheme) == nil }) {
      refusals.append(
        .engine(
          "\(layer.path): the format gptq holds int4 or int8 weights, per channel or in groups, and float "
            + "activations, not \(layer.scheme). Use --recipe w4a16 or w8a16, or --format "
            + "compressed-tensors."))
    } else if let mixed = plan.secondScheme(in: name) {
      refusals.append(mixed)
    }
    let uneven = plan.layers.filter {
      !$0.outputs.isMultiple(of: Self.unit) || !$0.inputs.isMultiple(of: Self.unit)
    }
    if let layer = uneven.first {
      refusals.append(
        .engine(
          "\(layer.path)\(uneven.count > 1 ? " and \(uneven.count - 1) more" : ""): the format gptq packs "
            + "\(Self.unit) inputs and outputs together, and [\(layer.outputs), \(layer.inputs)] are no "
            + "multiples of it. Use --format compressed-tensors."))
    }
    if let head = plan.quantizedHead(in: name) { refusals.append(head) }
    return refusals
  }

  public func notes(_ plan: Plan) -> [String] {
    guard let setting = plan.layers.first.flatMap({ Setting($0.scheme) }) else { return [] }
    guard setting.symmetric else {
      return [
        "gptq with zero points is read by GPTQModel, and by transformers through it. vLLM 0.32 and lmdeploy "
          + "refuse it: for them use --format awq, or --symmetric."
      ]
    }
    var notes: [String] = []
    if setting.bits != 4 || setting.group != 128 {
      notes.append(
        "lmdeploy reads gptq with 4 bits in groups of 128 only; vLLM 0.32 reads 4 and 8 bits per channel and "
          + "in groups of 32, 64 and 128.")
    }
    if plan.keptFloat.contains(where: \.isLinear) {
      notes.append(
        "layers that stay float are named under \"dynamic\", as GPTQModel does it; vLLM finds them by their "
          + "tensors. lmdeploy expects every layer to be quantized.")
    }
    return notes
  }

  public func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor] {
    let bits = layer.scheme.weights.format.numbers.bits
    let groups = layer.scheme.weights.scalesPerRow(inputs: layer.inputs)
    func tensor(_ suffix: String, _ dtype: DType, _ shape: [Int]) -> SafetensorsLayout.Tensor {
      SafetensorsLayout.Tensor(name: "\(layer.path).\(suffix)", dtype: dtype, shape: shape)
    }
    return [
      tensor("qweight", .i32, [layer.inputs * bits / 32, layer.outputs]),
      tensor("qzeros", .i32, [groups, layer.outputs * bits / 32]),
      tensor("scales", .f16, [groups, layer.outputs]),
      tensor("g_idx", .i32, [layer.inputs]),
    ]
  }

  public func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] {
    let (n, k, bits) = (matrix.rows, matrix.columns, matrix.scheme.format.numbers.bits)
    let groups = matrix.grid.perRow
    let half = 1 << (bits - 1)
    // Version 1 stores zero points less one.
    let zero = matrix.zeroPoints.isEmpty ? half - 1 : half
    let zeros = DenseCodes.pack(count: groups * n, bits: bits) { index in
      let at = index % n * groups + index / n
      return UInt8(zero + (matrix.zeroPoints.isEmpty ? 0 : Int(matrix.zeroPoints[at])))
    }
    let scales = transposed(matrix.scales, rows: n, columns: groups)
    let order = (0..<k).flatMap { index in
      (0..<4).map { UInt8(truncatingIfNeeded: (index / matrix.grid.columns) >> (8 * $0)) }
    }
    return [
      "\(layer.path).qweight": Bytes(
        WordMatrix(DenseCodes.pack(matrix), columns: k * bits / 32).transposed),
      "\(layer.path).qzeros": Bytes(zeros),
      "\(layer.path).scales": Bytes(FloatFormat.f16.encode(scales.span)),
      "\(layer.path).g_idx": Bytes(order),
    ]
  }

  public func config(_ source: JSON, _ plan: Plan) -> JSON {
    var config = source
    config.set("quantization_config", Self.settings(plan))
    return config
  }

  /// Older readers look only here.
  public func companions(of plan: Plan) -> [(name: String, text: String)] {
    [("quantize_config.json", Self.settings(plan).text(pretty: true) + "\n")]
  }

  private static func settings(_ plan: Plan) -> JSON {
    let setting = plan.layers.first.flatMap { Setting($0.scheme) }
    let version = setting?.symmetric == false ? GPTQReader.secondVersion : GPTQReader.method
    var json: JSON = [
      "quant_method": .string(GPTQReader.method), "bits": JSON(setting?.bits ?? 4),
      "group_size": JSON(setting?.group ?? -1), "desc_act": false,
      "sym": .bool(setting?.symmetric ?? true), "lm_head": false,
      "checkpoint_format": .string(version), "pack_dtype": "int32",
    ]
    let kept = plan.keptFloat.filter { $0.isLinear && $0.path != plan.headPath }
    if !kept.isEmpty {
      var dynamic: JSON = [:]
      for layer in kept { dynamic.set("-:^\(layer.path.replacing(".", with: "\\."))$", [:]) }
      json.set("dynamic", dynamic)
    }
    return json
  }
}

extension EngineFormat {
  public static let gptq = EngineFormat(GPTQ(), reader: GPTQReader.self)
}
