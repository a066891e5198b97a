public import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Writes quantized layers in the format of an engine. Works from codes, scales and the plan, and
/// does not depend on the method that made them.
public protocol Exporter: Sendable {
  /// Name of the format, as in the config that it writes.
  var name: String { get }
  /// Reasons for the engine to reject the plan.
  func refusals(_ plan: Plan) -> [Refusal]
  /// Parts of the plan that some engines of this format do not run.
  func notes(_ plan: Plan) -> [String]
  /// Families, by `model_type`, whose float stacked experts are known to load with quantized
  /// layers.
  var familiesWithFloatExperts: Set<String> { get }
  /// The tensors of a layer, known before it is quantized.
  func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor]
  /// Data of the layer's tensors, by name.
  ///
  /// - Parameter inputs: how the layer rounds its inputs. For static activations this has the range
  ///   from calibration.
  func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes]
  /// Data of the layer's tensors, for formats that store the bias in codes.
  func encode(
    _ matrix: QuantizedMatrix, bias: [Float]?, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes]
  /// The tensors of a norm, without its weight, if a recipe adds biases to norms. Empty if the
  /// format does not store them.
  ///
  /// - Parameter path: path of the norm, such as `model.layers.3.input_layernorm`.
  func tensors(ofNorm path: String, width: Int, _ format: FloatFormat) -> [SafetensorsLayout.Tensor]
  /// Data of the norm's tensors, by name.
  func encode(_ norm: Norm, of path: String, _ format: FloatFormat) -> [String: Bytes]
  /// Name of the weight files, without the shard number and `.safetensors`.
  func stem(of plan: Plan) -> String
  /// Files that the engine reads, besides config.json and the weights.
  func companions(of plan: Plan) -> [(name: String, text: String)]
  /// config.json of the quantized model.
  func config(_ source: JSON, _ plan: Plan) -> JSON
  /// What the rules of the format find wrong in a written folder, before it gets its name: faults of
  /// the writer, not of the model.
  func faults(in folder: String) -> [String]
  /// Format in which the scales of a weight are stored.
  func scaleFormat(of layer: Plan.Layer) -> FloatFormat
  /// Format in which static scales of inputs are stored.
  func inputScaleFormat(of layer: Plan.Layer) -> FloatFormat
  /// The tensors of a block's KV cache scales. Empty if the format does not store them.
  ///
  /// - Parameter path: path of the block's attention, such as `model.layers.3.self_attn`.
  func cacheTensors(
    _ format: KeyValueFormat, _ attention: Attention, of path: String
  ) -> [SafetensorsLayout.Tensor]
  /// Data of the KV cache scales' tensors, by name.
  ///
  /// - Parameter ranges: the calibrated ranges, for formats with finer scales.
  func encode(
    _ scales: KeyValueScales, _ ranges: KeyValueRanges, of path: String
  ) -> [String: Bytes]
  /// Separate files of KV cache scales, for engines that do not read them from the weights.
  ///
  /// - Parameter ranges: calibrated ranges, one entry per block.
  func cacheFiles(_ ranges: [KeyValueRanges], _ plan: Plan) -> [(name: String, bytes: [UInt8])]
}

extension Exporter {
  public func notes(_ plan: Plan) -> [String] { [] }
  public func faults(in folder: String) -> [String] { [] }
  public var familiesWithFloatExperts: Set<String> { [] }
  public func stem(of plan: Plan) -> String { "model" }
  public func companions(of plan: Plan) -> [(name: String, text: String)] { [] }
  public func inputScaleFormat(of layer: Plan.Layer) -> FloatFormat { .f32 }
  public func encode(
    _ matrix: QuantizedMatrix, bias: [Float]?, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] {
    encode(matrix, inputs: inputs, of: layer)
  }

  public func tensors(
    ofNorm path: String, width: Int, _ format: FloatFormat
  ) -> [SafetensorsLayout.Tensor] { [] }

  public func encode(_ norm: Norm, of path: String, _ format: FloatFormat) -> [String: Bytes] {
    [:]
  }

  public func cacheTensors(
    _ format: KeyValueFormat, _ attention: Attention, of path: String
  ) -> [SafetensorsLayout.Tensor] { [] }

  public func encode(
    _ scales: KeyValueScales, _ ranges: KeyValueRanges, of path: String
  ) -> [String: Bytes] { [:] }

  public func cacheFiles(
    _ ranges: [KeyValueRanges], _ plan: Plan
  ) -> [(name: String, bytes: [UInt8])] { [] }
}
