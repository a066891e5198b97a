import Foundation

/// A line of input in a conversation.
enum ChatCommand: Equatable {
  case say(String)
  case help
  case system(String?)
  case regenerate
  case undo
  case clear
  case save(String)
  case quit
  case nothing
  /// An unknown or incomplete command, with a message.
  case mistaken(String)

  static let list = """
    /help           these commands
    /system [TEXT]  what the model is told first: TEXT from now on; without TEXT what it is
    /regenerate     answer the last question again (another text needs --temperature above 0)
    /undo           take the last question and its answer back
    /clear          forget the conversation, also /reset
    /save FILE      write the conversation as JSON messages
    /quit           end, also /exit and Ctrl-D; Ctrl-C stops an answer
    """

  init(_ line: String) {
    let text = line.trimmingCharacters(in: .whitespaces)
    guard text.hasPrefix("/") else {
      self = text.isEmpty ? .nothing : .say(line)
      return
    }
    let words = text.split(separator: " ", maxSplits: 1)
    let rest = words.count > 1 ? words[1].trimmingCharacters(in: .whitespaces) : ""
    switch (words[0], rest.isEmpty) {
    case ("/help", _): self = .help
    case ("/system", _): self = .system(rest.isEmpty ? nil : rest)
    case ("/regenerate", true): self = .regenerate
    case ("/undo", true): self = .undo
    case ("/clear", true), ("/reset", true): self = .clear
    case ("/save", false): self = .save(rest)
    case ("/save", true): self = .mistaken("/save needs the name of a file to write")
    case ("/quit", true), ("/exit", true): self = .quit
    default: self = .mistaken("no such command: \(text); /help lists them")
    }
  }
}
