import ArgumentParser
import NibbleModel

struct GenerationOptions: ParsableArguments {
  @Option(help: "Tokens to write at most.")
  var maxTokens = 512
  @Option(
    help: """
      0 takes the most likely token; higher is more varied. Default of this and the next four: what \
      generation_config.json says; else 0, 1 for --top-p and --repetition-penalty, and all tokens.
      """)
  var temperature: Float?
  @Option(help: "Choose among this many of the most likely tokens.")
  var topK: Int?
  @Option(help: "Choose among the fewest most likely tokens whose probabilities reach this sum.")
  var topP: Float?
  @Option(help: "Leave out tokens less likely than this share of the most likely one.")
  var minP: Float?
  @Option(help: "Above 1: tokens seen already become less likely.")
  var repetitionPenalty: Float?
  @Option(help: "The same seed gives the same text.")
  var seed: UInt64 = 0
  @Option(help: "A text that ends the answer; may be given several times.")
  var stop: [String] = []
  @Option(
    help: "Tokens of prompt and answer at most. Default: what the model was made for, up to 8192.")
  var context: Int?
  @Option(
    help: """
      Share of the memory that is free beside the weights which keys and values may take, above 0 and up \
      to 1. Default: 0.8.
      """)
  var cacheMaxEntryCount: Double?
  @Option(help: "Most memory for keys and values instead, such as 500MB.")
  var cacheBytes: String?
  @Option(
    name: [.long, .customLong("meta-instruction")],
    help: "What the model is told first.")
  var system: String?
  @Option(
    help: """
      Guess up to so many tokens ahead from the text so far; the same text, sooner where it repeats \
      the prompt, as summaries and edits do. At most 7 where activations are rounded. Default: none.
      """)
  var promptLookup: Int?

  /// The settings given as options; the others from the publisher.
  func sampling(_ config: GenerationConfig) -> Sampling {
    var sampling = config.sampling
    if let temperature { sampling.temperature = temperature }
    if let topK { sampling.topK = topK }
    if let topP { sampling.topP = topP }
    if let minP { sampling.minP = minP }
    if let repetitionPenalty { sampling.repetitionPenalty = repetitionPenalty }
    sampling.seed = seed
    return sampling
  }

  func cacheLimit() throws -> CacheLimit {
    if let cacheBytes { return .bytes(try ByteSize.bytes(cacheBytes, "--cache-bytes")) }
    return cacheMaxEntryCount.map { .shareOfFreeMemory($0) } ?? .standard
  }

  func validate() throws {
    if let fault = sampling(GenerationConfig()).fault { throw ValidationError("\(fault).") }
    guard (1...1 << 24).contains(maxTokens) else {
      throw ValidationError("--max-tokens is \(maxTokens); use 1 or more.")
    }
    if let promptLookup, !(1...64).contains(promptLookup) {
      throw ValidationError("--prompt-lookup is \(promptLookup); use 1 to 64.")
    }
    if let context, !(2...1 << 24).contains(context) {
      throw ValidationError("--context is \(context); use 2 or more.")
    }
    if let share = cacheMaxEntryCount {
      guard share > 0, share <= 1 else {
        throw ValidationError("--cache-max-entry-count is \(share); use a share such as 0.5.")
      }
      guard cacheBytes == nil else {
        throw ValidationError("--cache-max-entry-count and --cache-bytes both limit; give one.")
      }
    }
    _ = try cacheLimit()
  }
}
