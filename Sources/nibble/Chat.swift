import ArgumentParser
import Foundation
import NibbleFormats
import NibbleModel

struct Chat: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Talk with a model.",
    discussion: "Ctrl-C stops an answer. Commands:\n\(ChatCommand.list)")

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
    let sampling = assistant.sampling(generation)
    var conversation = Conversation(system: generation.system)
    // Held until the end: it handles Ctrl-C.
    let interrupt = AnswerInterrupt()
    Terminal.note("talking with \(model); /help lists the commands, /quit ends")
    while let line = prompt() {
      switch ChatCommand(line) {
      case .nothing: continue
      case .quit: return
      case .help: Terminal.note(ChatCommand.list)
      case .mistaken(let what): Terminal.note(what)
      case .system(let text?): conversation.system = text
      case .system(nil): Terminal.note(conversation.system ?? "the model is told nothing first")
      case .clear: conversation.clear()
      case .undo: if !conversation.undo() { Terminal.note("there is no question to take back") }
      case .save(let file): save(conversation, file)
      case .regenerate:
        guard conversation.reopen() else {
          Terminal.note("there is no answer to give again")
          continue
        }
        try reply(assistant, sampling, &generator, &conversation, interrupt)
      case .say(let text):
        conversation.ask(text)
        try reply(assistant, sampling, &generator, &conversation, interrupt)
      }
    }
  }

  private func prompt() -> String? {
    if isatty(STDIN_FILENO) == 1 { Terminal.ask() }
    return readLine()
  }

  private func save(_ conversation: Conversation, _ file: String) {
    do {
      try Data((conversation.json.text(pretty: true) + "\n").utf8).write(
        to: URL(fileURLWithPath: file), options: .withoutOverwriting)
      Terminal.note("wrote \(file)")
    } catch {
      Terminal.note("\(file) was not written: \(error.localizedDescription); give another name")
    }
  }

  private func reply(
    _ assistant: Assistant, _ sampling: Sampling, _ generator: inout Generator,
    _ conversation: inout Conversation, _ interrupt: AnswerInterrupt
  ) throws {
    let ids = try assistant.tokens(conversation.messages)
    let room = generator.session.capacity - ids.count
    guard room > 0 else {
      _ = conversation.undo()
      return Terminal.note(
        "the conversation fills the context of \(generator.session.capacity) tokens; /undo or /clear "
          + "makes room")
    }
    var written = ""
    interrupt.begin()
    defer { interrupt.end() }
    let answer = try generator.answer(
      to: ids, limit: min(generation.maxTokens, room), sampling: sampling,
      stops: generation.stop
    ) { piece in
      written += piece
      if !json { Terminal.write(piece) }
      return !interrupt.isRequested
    }
    conversation.answer(written)
    if json {
      var object: JSON = ["text": .string(written), "end": .string(answer.end.rawValue)]
      object.add(generator.speed)
      Terminal.print(object)
    } else {
      Terminal.write("\n")
      Terminal.note(generator.speed.text)
    }
  }
}
