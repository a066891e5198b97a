import ArgumentParser
import Foundation
import NibbleFormats
import NibbleModel

struct Chat: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Talk with a model.",
    discussion: "Commands: /reset forgets the conversation, /quit ends it, /help lists them.")

  @Argument(help: "A Hugging Face folder, float or quantized, or a .gguf file.")
  var model: String
  @OptionGroup var load: LoadOptions
  @OptionGroup var generation: GenerationOptions
  @OptionGroup var compute: ComputeOptions
  @Flag(help: "Print one JSON object an answer.")
  var json = false

  func run() throws {
    let assistant = try Assistant(model, load, compute)
    var generator = try assistant.generator(generation)
    var messages = assistant.opening(generation.system)
    Terminal.note("talking with \(model); /help lists the commands, /quit ends")
    while let line = prompt() {
      switch line.trimmingCharacters(in: .whitespaces) {
      case "": continue
      case "/quit", "/exit": return
      case "/reset": messages = assistant.opening(generation.system)
      case "/help": Terminal.note("/reset forgets the conversation, /quit ends it")
      case let command where command.hasPrefix("/"):
        Terminal.note("no such command: \(command); /help lists them")
      default:
        messages.append(ChatMessage(role: "user", content: line))
        try reply(assistant, &generator, &messages)
      }
    }
  }

  private func prompt() -> String? {
    if isatty(STDIN_FILENO) == 1 { Terminal.ask() }
    return readLine()
  }

  private func reply(
    _ assistant: Assistant, _ generator: inout Generator, _ messages: inout [ChatMessage]
  ) throws {
    let ids = try assistant.tokens(messages)
    let room = generator.session.capacity - ids.count
    guard room > 0 else {
      messages.removeLast()
      return Terminal.note(
        "the conversation fills the context of \(generator.session.capacity) tokens; /reset starts over"
      )
    }
    let clock = ContinuousClock()
    let start = clock.now
    var written = ""
    let answer = try generator.answer(
      to: ids, limit: min(generation.maxTokens, room), sampling: generation.sampling,
      stops: generation.stop
    ) { piece in
      written += piece
      if !json { Terminal.write(piece) }
      return true
    }
    let seconds = (clock.now - start) / .seconds(1)
    messages.append(ChatMessage(role: "assistant", content: written))
    if json {
      Terminal.print(["text": .string(written), "end": .string(answer.end.rawValue)])
    } else {
      Terminal.write("\n")
      Terminal.note(
        "\(answer.tokens.count) tokens, \(Terminal.number(Double(answer.tokens.count) / seconds, 1)) a second"
      )
    }
  }
}
