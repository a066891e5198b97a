import NibbleFormats
public import NibbleModel
public import NibbleQuantize
public import NibbleTensor
public import NibbleText

/// A model in any format, opened by its path and ready to run.
public struct LoadedModel: Sendable {
  public let checkpoint: Checkpoint
  public private(set) var decoder: Decoder
  /// Calibrated scales of each block's KV cache; nil when there are none.
  public let cacheScales: [KeyValueScales]?

  /// - Parameters:
  ///   - path: a Hugging Face folder, float or in an ``EngineFormat``, or a `.gguf` file.
  ///   - keepsCompressed: whether the codes of a W8A8SC model stay compressed in memory and are
  ///     decompressed in each product.
  ///   - families: those that its config may belong to.
  public init(
    path: String, keepsCompressed: Bool = false, families: [Family] = Family.all
  ) throws(ModelError) {
    try self.init(
      Self.checkpoint(at: path, families: families), keepsCompressed: keepsCompressed)
  }

  /// The checkpoint at a path; for a compressed model, that of its first part.
  public static func checkpoint(
    at path: String, families: [Family] = Family.all
  ) throws(ModelError) -> Checkpoint {
    try Checkpoint(
      path: path, weights: AscendParts.folders(of: path).first ?? path, families: families)
  }

  /// - Parameters:
  ///   - checkpoint: from ``checkpoint(at:)``.
  ///   - compute: for decompression of weights; nil uses all processors.
  public init(
    _ checkpoint: Checkpoint, keepsCompressed: Bool = false, on compute: Compute? = nil
  ) throws(ModelError) {
    self.checkpoint = checkpoint
    let shape = try checkpoint.decoderShape()
    guard let method = try checkpoint.quantizationMethod() else {
      if let codes = GGUFCodes(checkpoint) {
        decoder = try Decoder(shape, from: codes)
      } else {
        decoder = try Decoder(shape, from: checkpoint)
      }
      cacheScales = nil
      return
    }
    guard let reader = EngineFormat(named: method)?.reader else {
      throw .unsupported(
        "\(checkpoint.path): quant_method \"\(method)\" is not one that Nibble runs; those are "
          + EngineFormat.all.map(\.name).joined(separator: ", "))
    }
    (decoder, cacheScales) = try Self.read(
      reader, checkpoint, shape,
      ReaderSettings(keepsCompressed: keepsCompressed, compute: compute))
  }

  private static func read(
    _ reader: (some EngineReader).Type, _ checkpoint: Checkpoint, _ shape: DecoderShape,
    _ settings: ReaderSettings
  ) throws(ModelError) -> (Decoder, [KeyValueScales]?) {
    let opened = try reader.open(checkpoint, shape, settings)
    try checkpoint.checkTensors(shape, storing: reader.storedNames(shape))
    return (try Decoder(shape, from: opened), try opened.cacheScales(shape))
  }

  /// A float model that is quantized while it is loaded, by a recipe without calibration.
  public init(
    path: String, rounding recipe: Recipe, on compute: Compute
  ) throws(QuantizeError) {
    let checkpoint: Checkpoint
    do { checkpoint = try Checkpoint(path: path) } catch { throw .model(error) }
    try self.init(checkpoint, rounding: recipe, on: compute)
  }

  /// A float model that is quantized while it is loaded, by a recipe without calibration.
  public init(
    _ checkpoint: Checkpoint, rounding recipe: Recipe, on compute: Compute
  ) throws(QuantizeError) {
    self.checkpoint = checkpoint
    do {
      if let method = try checkpoint.quantizationMethod() {
        throw QuantizeError.alreadyQuantized(path: checkpoint.path, method: method)
      }
      var config = try checkpoint.decoderShape()
      let untiesHead = recipe.quantizesHead && config.head.isTied
      if untiesHead { config.head.isTied = false }
      cacheScales = nil
      let decided =
        recipe.isUndecided
        ? recipe.choosing(
          try FormatChoice(checkpoint, recipe, exporter: CompressedTensors(), on: compute))
        : recipe
      decoder = try Decoder(
        config,
        from: RoundedSource(
          checkpoint, config, recipe: decided, untyingHead: untiesHead, on: compute))
    } catch { throw QuantizeError(wrapping: error) }
  }

  /// The same model with the head quantized to int8: ``Decoder/quantizeHead(on:)``.
  public func withQuantizedHead(on compute: Compute) throws(ModelError) -> LoadedModel {
    var model = self
    try model.decoder.quantizeHead(on: compute)
    return model
  }

  /// The same model with another treatment of the float activations of integer weights:
  /// ``Decoder/running(floatActivations:)``.
  public func running(floatActivations choice: FloatActivations) -> LoadedModel {
    var model = self
    model.decoder = decoder.running(floatActivations: choice)
    return model
  }

  /// The tokenizer, checked against the model's vocabulary.
  public func tokenizer() throws(ModelError) -> Tokenizer {
    guard let tokenizer = try checkpoint.tokenizer() else {
      throw .notAModel(
        path: checkpoint.path,
        reason: "there is no tokenizer.json, vocab.json, tokenizer.model or .tiktoken file")
    }
    guard tokenizer.vocabularySize <= decoder.shape.vocabulary else {
      throw .tokenOutsideVocabulary(
        tokenizer.vocabularySize - 1, vocabulary: decoder.shape.vocabulary)
    }
    return tokenizer
  }
}
