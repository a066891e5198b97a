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

  public func faults(in folder: String) -> [String] { EngineContract.writtenFaults(folder) }

  /// Storage layout of codes.
  public enum Layout: String, Sendable {
    /// int8 `weight`, one byte per code of 4 or 8 bits.
    case intQuantized = "int-quantized"
    /// E4M3 `weight`.
    case floatQuantized = "float-quantized"
    /// Codes packed into int32 words along the inputs.
    case packQuantized = "pack-quantized"
    /// E2M1 codes, two per byte, and E8M0 scales.
    case mxfp4 = "mxfp4-pack-quantized"
    /// E2M1 codes, two per byte, E4M3 scales and the float that divides them.
    case nvfp4 = "nvfp4-pack-quantized"
  }

  /// Nil for a scheme that the format cannot hold.
  public static func layout(_ scheme: LinearScheme) -> Layout? {
    switch (scheme.weights.format.numbers, scheme.weights.format.scales) {
    case (.integer, _): scheme.activations == nil ? .packQuantized : .intQuantized
    case (.minifloat(.e4m3), .float): .floatQuantized
    case (.minifloat(.e2m1), .powerOfTwo): scheme.activations == nil ? .mxfp4 : nil
    case (.minifloat(.e2m1), .e4m3): scheme.activations == nil ? .nvfp4 : nil
    case (.minifloat, _): nil
    }
  }

  /// Packed weights take scales in the model's format; other scales are stored in float for
  /// accuracy.
  public func scaleFormat(of layer: Plan.Layer) -> FloatFormat {
    Self.layout(layer.scheme) == .packQuantized ? layer.modelFormat : .f32
  }

  public func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor] {
    let weights = layer.scheme.weights
    let (n, k) = (layer.outputs, layer.inputs)
    let scaleShape = Self.scaleShape(weights, outputs: n, inputs: k)
    func tensor(_ suffix: String, _ dtype: DType, _ shape: [Int]) -> SafetensorsLayout.Tensor {
      SafetensorsLayout.Tensor(name: "\(layer.path).\(suffix)", dtype: dtype, shape: shape)
    }
    let layout = Self.layout(layer.scheme)
    let scaleType: DType =
      layout == .mxfp4 ? .u8 : layout == .nvfp4 ? .f8E4M3 : scaleFormat(of: layer).dtype
    var tensors = [tensor("weight_scale", scaleType, scaleShape)]
    switch layout {
    case .intQuantized:
      tensors.append(tensor("weight", .i8, [n, k]))
      if weights.hasZeroPoints { tensors.append(tensor("weight_zero_point", .i8, scaleShape)) }
    case .floatQuantized: tensors.append(tensor("weight", .f8E4M3, [n, k]))
    case .mxfp4: tensors.append(tensor("weight_packed", .u8, [n, k / 2]))
    case .nvfp4:
      tensors.append(tensor("weight_packed", .u8, [n, k / 2]))
      tensors.append(tensor("weight_global_scale", .f32, [1]))
    // Refused; as large as it would be.
    case nil: tensors.append(tensor("weight", .u8, [n, k * weights.bits / 8]))
    case .packQuantized:
      tensors.append(tensor("weight_packed", .i32, [n, (k * weights.bits + 31) / 32]))
      tensors.append(tensor("weight_shape", .i64, [2]))
      if weights.hasZeroPoints {
        tensors.append(
          tensor("weight_zero_point", .i32, [(n * weights.bits + 31) / 32, scaleShape.last ?? 1]))
      }
    }
    if let activations = layer.scheme.activations, activations.isStatic {
      tensors.append(tensor("input_scale", .f32, [1]))
      if activations == .staticAsymmetric { tensors.append(tensor("input_zero_point", .i8, [1])) }
    }
    return tensors
  }

  /// `[1]`, or a matrix of scales. Groups of rows are written as channels, which is equivalent.
  static func scaleShape(_ weights: WeightScheme, outputs: Int, inputs: Int) -> [Int] {
    let grid = weights.grid(outputs: outputs, inputs: inputs)
    return switch weights.granularity {
    case .tensor: [1]
    case .rowGroups: [outputs, 1]
    case .channel, .group, .block: [grid.bands, grid.perRow]
    }
  }

  public func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] {
    var scales = matrix.scales
    if case .rowGroups = matrix.scheme.granularity {
      scales = (0..<matrix.rows).map { matrix.scales[matrix.grid.index(row: $0)] }
    }
    var tensors = ["weight_scale": Bytes(scaleFormat(of: layer).encode(scales.span))]
    switch Self.layout(layer.scheme) {
    case .intQuantized:
      tensors["weight"] = matrix.scheme.bits == 4 ? PackedCodes.widen(matrix.codes) : matrix.codes
      if !matrix.zeroPoints.isEmpty {
        tensors["weight_zero_point"] = Bytes(matrix.zeroPoints.map { UInt8(bitPattern: $0) })
      }
    case .floatQuantized: tensors["weight"] = matrix.codes
    case .mxfp4, .nvfp4:
      tensors["weight_packed"] = matrix.codes
      tensors["weight_scale"] = Bytes(matrix.scaleCodes)
      if matrix.scheme.format == .nvfp4 {
        let divisor = FloatFormat.f32.encode([matrix.scaleDivisor].span)
        tensors["weight_global_scale"] = Bytes(divisor)
      }
    case nil: preconditionFailure("\(matrix.scheme) has no place in compressed-tensors")
    case .packQuantized:
      tensors["weight_packed"] = PackedCodes.pack(matrix)
      tensors["weight_shape"] = PackedCodes.shape([matrix.rows, matrix.columns])
      if !matrix.zeroPoints.isEmpty {
        tensors["weight_zero_point"] = PackedCodes.packZeroPoints(matrix)
      }
    }
    if let range = inputs?.range {
      tensors["input_scale"] = Bytes(FloatFormat.f32.encode([range.scale].span))
      if inputs?.scheme == .staticAsymmetric {
        tensors["input_zero_point"] = Bytes([UInt8(bitPattern: Int8(range.zero))])
      }
    }
    return Dictionary(uniqueKeysWithValues: tensors.map { ("\(layer.path).\($0)", $1) })
  }
}

extension EngineFormat {
  public static let compressedTensors = EngineFormat(
    CompressedTensors(), reader: CompressedTensorsReader.self)
}
