import NibbleFormats

/// The publisher's generation settings of a model: generation_config.json.
public struct GenerationConfig: Sendable, Hashable {
  /// Ids that end an answer, besides those of config.json.
  public var endOfText: [Int] = []
  /// Whether tokens are sampled (`do_sample`); otherwise the most likely one is taken.
  public var samples = false
  public var temperature: Float?
  /// 0 keeps all.
  public var topK: Int?
  public var topP: Float?
  public var minP: Float?
  public var repetitionPenalty: Float?
  /// Keys that would change answers but are not supported by Nibble.
  public var passedOver: [String] = []

  public init() {}

  /// Default sampling settings.
  ///
  /// As in transformers: temperature 1 and the 50 most likely tokens where the file asks for
  /// sampling without further settings; without sampling, the most likely token after the
  /// repetition penalty.
  public var sampling: Sampling {
    var sampling = Sampling()
    sampling.temperature = samples ? temperature ?? 1 : 0
    let kept = topK ?? (samples ? 50 : 0)
    sampling.topK = kept == 0 ? nil : kept
    sampling.topP = topP ?? 1
    sampling.minP = minP ?? 0
    sampling.repetitionPenalty = repetitionPenalty ?? 1
    return sampling
  }
}

extension Checkpoint {
  /// generation_config.json beside the weights; default settings without one.
  public func generationConfig() throws(ModelError) -> GenerationConfig {
    let name = "generation_config.json"
    var config = GenerationConfig()
    guard let json = try companion(name) else { return config }
    guard json.object != nil else {
      throw .notAModel(path: path + "/" + name, reason: "it is \(json.kind), not an object")
    }
    let fields = ConfigFields(json: json, path: path + "/" + name, family: "")
    config.endOfText = try fields.integers("eos_token_id")
    config.samples = try fields.flag("do_sample")
    func number(_ field: String, _ range: ClosedRange<Double>) throws(ModelError) -> Float? {
      guard let value = json[field], !value.isNull else { return nil }
      return Float(try fields.number(field, in: range))
    }
    let least = Double(Float.leastNormalMagnitude)
    config.temperature = try number("temperature", 0...1e6)
    config.topP = try number("top_p", least...1)
    config.minP = try number("min_p", 0...1)
    config.repetitionPenalty = try number("repetition_penalty", least...1e6)
    if json["top_k"] == 0 {
      config.topK = 0
    } else {
      config.topK = try fields.optionalSize("top_k")
    }
    config.passedOver = GenerationConfig.neutral.compactMap { key, neutral in
      guard let value = json[key], !value.isNull, !neutral.contains(value.text()) else {
        return nil
      }
      return key
    }
    return config
  }
}

extension GenerationConfig {
  /// Keys that change answers, with the values that have no effect.
  fileprivate static let neutral: [(key: String, values: [String])] = [
    ("num_beams", ["1"]), ("num_beam_groups", ["1"]), ("penalty_alpha", ["0", "0.0"]),
    ("typical_p", ["1", "1.0"]), ("epsilon_cutoff", ["0", "0.0"]), ("eta_cutoff", ["0", "0.0"]),
    ("top_h", []), ("no_repeat_ngram_size", ["0"]), ("encoder_no_repeat_ngram_size", ["0"]),
    ("encoder_repetition_penalty", ["1", "1.0"]), ("diversity_penalty", ["0", "0.0"]),
    ("exponential_decay_length_penalty", []), ("bad_words_ids", ["[]"]), ("sequence_bias", []),
    ("suppress_tokens", ["[]"]), ("begin_suppress_tokens", ["[]"]), ("force_words_ids", ["[]"]),
    ("forced_bos_token_id", []), ("forced_eos_token_id", []), ("min_length", ["0"]),
    ("min_new_tokens", ["0"]), ("stop_strings", ["[]"]), ("guidance_scale", ["1", "1.0"]),
  ]
}
