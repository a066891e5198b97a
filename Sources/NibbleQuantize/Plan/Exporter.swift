public import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Writes quantized layers as one engine reads them. Sees codes, scales and the plan; no method.
public protocol Exporter: Sendable {
  /// The format's name, as in the config it writes.
  var name: String { get }
  /// What the engine would refuse.
  func refusals(_ plan: Plan) -> [Refusal]
  /// What some engines that read the format would not run.
  func notes(_ plan: Plan) -> [String]
  /// Families, by `model_type`, whose stacked experts were seen to load float beside quantized layers.
  var familiesWithFloatExperts: Set<String> { get }
  /// The tensors of a layer: known before its codes are.
  func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor]
  /// The data of those tensors, by name.
  ///
  /// - Parameter inputs: how the layer rounds its inputs: its scheme's activations, with the range
  ///   that calibration found where they are static.
  func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes]
  /// The data of those tensors where the layer has a bias, for formats that store it in codes.
  func encode(
    _ matrix: QuantizedMatrix, bias: [Float]?, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes]
  /// The tensors of a norm beside its weight, where a recipe gives norms a bias; none when the format
  /// has no place for them.
  ///
  /// - Parameter path: of the module, such as `model.layers.3.input_layernorm`.
  func tensors(ofNorm path: String, width: Int, _ format: FloatFormat) -> [SafetensorsLayout.Tensor]
  /// The data of those tensors, by name.
  func encode(_ norm: Norm, of path: String, _ format: FloatFormat) -> [String: Bytes]
  /// What weight files are called, without `.safetensors` and numbers.
  func stem(of plan: Plan) -> String
  /// Files beside config.json that the engine reads.
  func companions(of plan: Plan) -> [(name: String, text: String)]
  /// config.json of the quantized model.
  func config(_ source: JSON, _ plan: Plan) -> JSON
  /// What scales are rounded to before they are stored.
  func scaleFormat(of layer: Plan.Layer) -> FloatFormat
  /// What static scales of inputs are rounded to before they are stored.
  func inputScaleFormat(of layer: Plan.Layer) -> FloatFormat
  /// The tensors that hold the scales of a block's cache; none when the format has no place for them.
  ///
  /// - Parameter path: the block's attention, such as `model.layers.3.self_attn`.
  func cacheTensors(
    _ format: KeyValueFormat, _ attention: Attention, of path: String
  ) -> [SafetensorsLayout.Tensor]
  /// The data of those tensors, by name.
  ///
  /// - Parameter ranges: where the scales come from, for formats that have finer ones.
  func encode(
    _ scales: KeyValueScales, _ ranges: KeyValueRanges, of path: String
  ) -> [String: Bytes]
  /// Files beside the weights that hold the scales of the cache, for engines that read them there.
  ///
  /// - Parameter ranges: of each block.
  func cacheFiles(_ ranges: [KeyValueRanges], _ plan: Plan) -> [(name: String, bytes: [UInt8])]
}

extension Exporter {
  public func notes(_ plan: Plan) -> [String] { [] }
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
