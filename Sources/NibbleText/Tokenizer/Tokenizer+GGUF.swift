public import NibbleFormats

extension Tokenizer {
  /// Builds from the metadata of a GGUF file, by way of the files from `huggingFaceFiles`.
  public init(gguf: GGUFTokenizer) throws(TokenizerError) {
    let files = try Self.huggingFaceFiles(from: gguf)
    try self.init(tokenizerJSON: files.tokenizer, config: files.config)
  }

  /// A `tokenizer.json` and `tokenizer_config.json` that Hugging Face transformers loads with the
  /// same result.
  public static func huggingFaceFiles(
    from gguf: GGUFTokenizer
  ) throws(TokenizerError) -> (tokenizer: JSON, config: JSON) {
    let source = try GGUFSource(gguf)
    let pipeline =
      switch gguf.model {
      case "gpt2": try source.byteLevelPipeline()
      case "llama": try source.sentencePiecePipeline()
      case let other: throw TokenizerError.badGGUF("Nibble does not know the model \(other)")
      }
    var tokenizer: JSONObject = JSONObject()
    tokenizer["version"] = "1.0"
    tokenizer["truncation"] = JSON.null
    tokenizer["padding"] = JSON.null
    tokenizer["added_tokens"] = .array(source.addedTokens)
    tokenizer["normalizer"] = pipeline.normalizer
    tokenizer["pre_tokenizer"] = pipeline.preTokenizer
    tokenizer["post_processor"] = source.template(
      begin: gguf.addBOS ?? pipeline.addsBOS, end: gguf.addEOS ?? false)
    tokenizer["decoder"] = pipeline.decoder
    tokenizer["model"] = pipeline.model
    return (.object(tokenizer), source.config)
  }
}
