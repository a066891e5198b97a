import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import NibbleText

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Answer one prompt.",
    discussion: "Standard output is the answer and nothing else; --json adds counts and speed.")

  @Argument(help: "A Hugging Face folder, float or quantized, or a .gguf file.")
  var model: String
  @Argument(
    help: """
      The prompt; - reads it from standard input. What is spelled like a special token is text, but with \
      --raw.
      """)
  var prompt: String
  @Flag(help: "Continue the prompt as it stands, without the model's chat template.")
  var raw = false
  @OptionGroup var beginning: BeginningOptions
  @OptionGroup var load: LoadOptions
  @OptionGroup var generation: GenerationOptions
  @OptionGroup var compute: ComputeOptions
  @Flag(help: "Say on standard error how fast it went.")
  var speed = false
  @Flag(help: "Print one JSON object instead of the text.")
  var json = false

  func validate() throws {
    guard raw || beginning.bos == .auto else {
      throw ValidationError(
        "--bos \(beginning.bos.rawValue) needs --raw: the chat template says how a prompt begins.")
    }
  }

  func run() throws {
    let assistant = try Assistant(model, load, compute)
    let text =
      prompt == "-"
      ? try TextSource.text(
        Array(FileHandle.standardInput.readDataToEndOfFile()), from: "standard input") : prompt
    let messages = assistant.opening(generation.system) + [ChatMessage(role: "user", content: text)]
    let ids = raw ? try assistant.tokens(text, beginning) : try assistant.tokens(messages)
    var generator = try assistant.generator(for: ids.count, generation)
    var written = ""
    let clock = ContinuousClock()
    let start = clock.now
    var firstPiece: ContinuousClock.Instant?
    let answer = try generator.answer(
      to: ids, limit: generation.maxTokens, sampling: assistant.sampling(generation),
      stops: generation.stop
    ) { piece in
      if firstPiece == nil { firstPiece = clock.now }
      if json { written += piece } else { Terminal.write(piece) }
      return true
    }
    if json {
      var object: JSON = [
        "text": .string(written), "prompt_tokens": JSON(ids.count),
        "tokens": .array(answer.tokens.map { JSON($0) }), "end": .string(answer.end.rawValue),
        "seconds": .number((clock.now - start) / .seconds(1)),
        "first_text_seconds": firstPiece.map { .number(($0 - start) / .seconds(1)) } ?? .null,
      ]
      object.add(generator.speed)
      Terminal.print(object)
    } else {
      Terminal.write("\n")
      if speed { Terminal.note(generator.speed.text) }
    }
  }
}

/// A model with its tokenizer and chat template.
struct Assistant {
  let loaded: LoadedModel
  let tokenizer: Tokenizer
  let template: ChatTemplate?
  private let config: GenerationConfig
  private let computing: Compute
  private let kept: CacheFormat

  init(_ path: String, _ load: LoadOptions, _ compute: ComputeOptions) throws {
    (loaded, computing) = try load.load(path, compute)
    kept = load.kv ?? .f16
    tokenizer = try loaded.tokenizer()
    template = try loaded.checkpoint.chatTemplate()
    config = try loaded.checkpoint.generationConfig()
  }

  /// Sampling settings; prints a note when the model's publisher has set some.
  func sampling(_ options: GenerationOptions) -> Sampling {
    let sampling = options.sampling(config)
    if sampling != options.sampling(GenerationConfig()) {
      Terminal.note("with generation_config.json: \(sampling.text)")
    }
    if !config.passedOver.isEmpty {
      Terminal.note(
        "generation_config.json sets \(config.passedOver.joined(separator: ", ")) too, which Nibble "
          + "does not apply")
    }
    return sampling
  }

  func opening(_ system: String?) -> [ChatMessage] {
    system.map { [ChatMessage(role: "system", content: $0)] } ?? []
  }

  /// The ids of a text without a template, with the tokens that the tokenizer puts around a text.
  func tokens(_ text: String, _ rule: BeginningOptions) throws -> [Int] {
    let ids = tokenizer.encode(text, addSpecialTokens: true).dropFirst(tokenizer.beginning.count)
    return try rule.tokens(of: tokenizer) + ids
  }

  func tokens(_ messages: [ChatMessage]) throws -> [Int] {
    guard let template else {
      throw ModelError.unsupported(
        "\(loaded.checkpoint.path) has no chat template. Use --raw to continue the prompt as it stands."
      )
    }
    return try tokenizer.encode(messages, with: template)
  }

  /// A generator with room for a prompt and its answer.
  func generator(for prompt: Int, _ options: GenerationOptions) throws -> Generator {
    let limit = options.context ?? min(loaded.decoder.shape.context, 8192)
    guard prompt < limit else {
      throw ModelError.tooManyTokens(prompt, limit: limit, what: "the context holds")
    }
    let wanted = min(limit, prompt + options.maxTokens)
    return try generator(wanted, needed: wanted, options)
  }

  /// A generator with room for a whole conversation.
  func generator(_ options: GenerationOptions) throws -> Generator {
    let wanted = options.context ?? min(loaded.decoder.shape.context, 8192)
    return try generator(wanted, needed: options.context ?? 1, options)
  }

  /// - Parameters:
  ///   - wanted: number of tokens to have room for.
  ///   - needed: the smallest useful number.
  private func generator(
    _ wanted: Int, needed: Int, _ options: GenerationOptions
  ) throws -> Generator {
    let capacity = try options.cacheLimit().capacity(
      wanted: wanted, needed: needed, loaded.decoder, keeping: kept)
    if capacity < wanted {
      Terminal.note("the memory for keys and values holds \(capacity) tokens")
    }
    var generator = try Generator(
      loaded.decoder, tokenizer: tokenizer, capacity: capacity, keeping: kept,
      scales: loaded.cacheScales, on: computing)
    generator.promptLookup = options.promptLookup.map { PromptLookup(tokens: $0) }
    return generator
  }
}

extension Sampling {
  /// The settings that affect the choice of tokens, as text.
  fileprivate var text: String {
    var parts = ["temperature \(temperature)"]
    if temperature > 0 {
      if let topK { parts.append("top-k \(topK)") }
      if topP < 1 { parts.append("top-p \(topP)") }
      if minP > 0 { parts.append("min-p \(minP)") }
    }
    if repetitionPenalty != 1 { parts.append("repetition penalty \(repetitionPenalty)") }
    return parts.joined(separator: ", ")
  }
}
