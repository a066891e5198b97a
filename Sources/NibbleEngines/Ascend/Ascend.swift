public import NibbleFormats
public import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// Checkpoints as msModelSlim 26.1.0 writes them, for Ascend's MindIE and vllm-ascend: W8A8, W8A8S,
/// W8A16 and W8A8_DYNAMIC.
///
/// Weight files are called `quant_model_weight_w8a8.safetensors` and the like. A description lists
/// the type of each tensor; it is written once under each of the two names that consumers read.
/// Compared with the tool's own output; not run on its hardware.
public struct Ascend: Exporter {
  public init() {}

  public var name: String { "ascend" }

  public func faults(in folder: String) -> [String] { EngineContract.writtenFaults(folder) }

  static let descriptionStem = "quant_model_description"

  public func scaleFormat(of layer: Plan.Layer) -> FloatFormat { Self.format(layer) }
  public func inputScaleFormat(of layer: Plan.Layer) -> FloatFormat { Self.format(layer) }

  private static func format(_ layer: Plan.Layer) -> FloatFormat {
    layer.modelFormat == .bf16 ? .bf16 : .f32
  }

  public func refusals(_ plan: Plan) -> [Refusal] {
    var refusals: [Refusal] = []
    if let layer = plan.layers.first(where: { AscendType($0) == nil }) {
      refusals.append(
        .engine(
          "\(layer.path): the format ascend holds int8 weights with one scale per channel, and static or "
            + "per-token int8 activations, or int8 weights alone, not \(layer.scheme). Use --recipe "
            + "w8a8-static, w8a8s, w8a8 or w8a16."))
    }
    if let layer = plan.layers.first(where: { $0.isSparse && $0.modelFormat == .bf16 }) {
      refusals.append(
        .engine(
          "\(layer.path): Ascend runs W8A8S in float16 models only, and this one is bfloat16. Use "
            + "--recipe w8a8-static, or convert the model to float16."))
    }
    if let decoder = plan.decoder {
      do { try decoder.requireAscend("this model") } catch {
        refusals.append(.engine("\(error)"))
      }
    }
    return refusals
  }

  public func notes(_ plan: Plan) -> [String] {
    ["ascend: checked against the vendor's published vectors and tool output, not on its hardware"]
  }

  public func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor] {
    let (n, k) = (layer.outputs, layer.inputs)
    let float = Self.format(layer).dtype
    let perRow = layer.scheme.weights.scalesPerRow(inputs: k)
    return (AscendType(layer) ?? .w8a8).suffixes.map { suffix in
      let (dtype, shape): (DType, [Int]) =
        switch suffix {
        case "weight": (.i8, [n, k])
        case "weight_scale", "weight_offset": (float, [n, perRow])
        case "input_scale", "input_offset": (float, [1])
        case "quant_bias": (.i32, [n])
        // For float16 models, an int64 that holds the bits of a float32.
        default: (layer.modelFormat == .bf16 ? .f32 : .i64, [n])
        }
      return SafetensorsLayout.Tensor(name: "\(layer.path).\(suffix)", dtype: dtype, shape: shape)
    }
  }

  public func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] {
    encode(matrix, bias: nil, inputs: inputs, of: layer)
  }

  public func encode(
    _ matrix: QuantizedMatrix, bias: [Float]?, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] {
    let format = Self.format(layer)
    let type = AscendType(layer) ?? .w8a8
    func floats(_ values: [Float]) -> Bytes { Bytes(format.encode(values.span)) }
    var tensors = ["weight": matrix.codes]
    if type != .w8a8s {
      tensors["weight_scale"] = floats(matrix.scales)
      tensors["weight_offset"] = floats(
        matrix.zeroPoints.isEmpty
          ? [Float](repeating: 0, count: matrix.scales.count) : matrix.zeroPoints.map(Float.init))
    }
    if let range = inputs?.range {
      let numbers = AscendDequantization(matrix, bias: bias, inputs: range)
      tensors["input_scale"] = floats([range.scale])
      tensors["input_offset"] = floats([Float(range.zero)])
      tensors["quant_bias"] = Bytes(
        numbers.quantBias.flatMap { Self.littleEndian(UInt64(UInt32(bitPattern: $0)), 4) })
      tensors["deq_scale"] =
        layer.modelFormat == .bf16
        ? Bytes(FloatFormat.f32.encode(numbers.deqScale.span))
        : Bytes(numbers.deqScale.flatMap { Self.littleEndian(UInt64($0.bitPattern), 8) })
    }
    return Dictionary(uniqueKeysWithValues: tensors.map { ("\(layer.path).\($0)", $1) })
  }

  public func tensors(
    ofNorm path: String, width: Int, _ format: FloatFormat
  ) -> [SafetensorsLayout.Tensor] {
    Self.normSuffixes.map {
      SafetensorsLayout.Tensor(name: "\(path).\($0)", dtype: format.dtype, shape: [width])
    }
  }

  /// The norm a second time, as the module that quantized layers read: some runtimes read that,
  /// others the weight and bias themselves.
  public func encode(_ norm: Norm, of path: String, _ format: FloatFormat) -> [String: Bytes] {
    let weight = Bytes(format.encode(norm.weight.span))
    let shift = norm.bias ?? [Float](repeating: 0, count: norm.weight.count)
    let bias = Bytes(format.encode(shift.span))
    return [
      "\(path).bias": bias, "\(path).module.weight": weight, "\(path).module.bias": bias,
    ]
  }

  /// Tensors that the tool writes beside a norm's weight when it smooths.
  static let normSuffixes = ["bias", "module.weight", "module.bias"]

  /// Tensor names of its checkpoints, including those of parts and of fused modules.
  static func storedNames(of family: DecoderShape) -> StoredNames {
    let first = family.blocks[0].path + "."
    return StoredNames(
      linear: Set(AscendType.allCases.flatMap(\.suffixes)),
      norm: Set(normSuffixes + ["anti.weight", "anti.bias", "ori.weight", "ori.bias"]),
      modules: Set(
        AscendModule.all(block: 0, of: family, fused: true).map {
          String($0.path.dropFirst(first.count))
        }))
  }

  static func littleEndian(_ value: UInt64, _ bytes: Int) -> [UInt8] {
    (0..<bytes).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
  }

  public func stem(of plan: Plan) -> String {
    "quant_model_weight_" + Self.type(of: plan).fileName
  }

  /// The type of most layers.
  static func type(of plan: Plan) -> AscendType {
    let counts = Dictionary(grouping: plan.layers.compactMap { AscendType($0) }) { $0 }
    return AscendType.allCases.max { (counts[$0]?.count ?? 0) < (counts[$1]?.count ?? 0) }
      ?? .w8a8
  }

  public func config(_ source: JSON, _ plan: Plan) -> JSON {
    var config = source
    config.set("quantize", .string(Self.type(of: plan).fileName))
    if plan.units.contains(where: { !$0.cacheTensors.isEmpty }) { config.set("kv_quant", "C8") }
    if config["torch_dtype"] == nil, let dtype = config["dtype"] {
      config.set("torch_dtype", dtype)
    }
    return config
  }

  public func companions(of plan: Plan) -> [(name: String, text: String)] {
    let type = Self.type(of: plan)
    let description = AscendDescription(plan, type)
    return [
      ("\(Self.descriptionStem)_\(type.fileName).json", description.text(version: false)),
      ("\(Self.descriptionStem).json", description.text(version: true)),
    ]
  }
}

extension EngineFormat {
  public static let ascend = EngineFormat(Ascend(), reader: AscendReader.self)
}
