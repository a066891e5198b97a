import ArgumentParser
import NibbleFormats
import NibbleModel
import NibbleText

struct Tokenize: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Turn a text into token ids.")

  @Argument(help: "A model's folder or a .gguf file.")
  var model: String
  @Option(help: "A text file, or builtin.")
  var text: String
  @Flag(help: "Print one JSON object with the ids instead of a line an id and token.")
  var json = false

  func run() throws {
    let checkpoint = try Checkpoint(path: model)
    guard let tokenizer = try checkpoint.tokenizer() else {
      throw ModelError.notAModel(
        path: model,
        reason: "there is no tokenizer.json, vocab.json, tokenizer.model or .tiktoken file")
    }
    let ids = tokenizer.encode(try TextSource.read(text))
    if json {
      Terminal.print(["ids": .array(ids.map { JSON($0) })])
    } else {
      Terminal.write(ids.map { "\($0)\t\(tokenizer.token($0) ?? "")\n" }.joined())
    }
  }
}
