import Foundation
import NibbleFormats
import Testing

@Suite struct ChatTests {
  private func model(_ folder: String) throws -> String {
    let source = folder + "/source"
    try SmallModel.write(source, config: ["max_position_embeddings": 200_000])
    try write(
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<a>",
      source + "/chat_template.jinja")
    return source
  }

  @Test func commandsChangeTheConversation() throws {
    try inTemporaryFolder { folder in
      let source = try model(folder)
      let chat = try nibble(
        "chat", source, "--max-tokens", "6", "--meta-instruction", "S", "--json",
        input: """
          /regenerate
          One
          /regenerate
          Two
          /undo
          /save \(folder)/saved.json
          /save \(folder)/saved.json
          /system T
          /clear
          One
          /save \(folder)/later.json
          /frobnicate
          /quit
          never
          """)
      #expect(chat.status == 0, "\(chat)")
      let answers = try chat.output.split(separator: "\n").map {
        try JSON(parsing: Array($0.utf8))["text"]?.string
      }
      try #require(answers.count == 4)
      #expect(answers[0] == answers[1])
      let saved = try JSON(
        parsing: Array(Data(contentsOf: URL(fileURLWithPath: folder + "/saved.json"))))
      #expect(
        saved == [
          ["role": "system", "content": "S"], ["role": "user", "content": "One"],
          ["role": "assistant", "content": .string(answers[1] ?? "")],
        ])
      let later = try JSON(
        parsing: Array(Data(contentsOf: URL(fileURLWithPath: folder + "/later.json"))))
      #expect(later.array?.first?["content"] == "T" && later.array?.count == 3)
      for word in ["no answer to give again", "was not written", "no such command"] {
        #expect(chat.errors.contains(word), "\(word)")
      }
    }
  }

  @Test func anInterruptStopsTheAnswerAndNotTheProgram() throws {
    try inTemporaryFolder { folder in
      let (source, text) = (try model(folder), folder + "/text")
      try write("", text)
      let chat = try Call(
        ["chat", source, "--max-tokens", "90000", "--context", "100000"],
        input: "One\n/save \(folder)/saved.json\n/quit\n", output: text)
      for _ in 0..<3000 where try Data(contentsOf: URL(fileURLWithPath: text)).isEmpty {
        usleep(10_000)
      }
      chat.send(SIGINT)
      let outcome = try chat.wait()
      #expect(outcome.status == 0, "\(outcome)")
      let saved = try JSON(
        parsing: Array(Data(contentsOf: URL(fileURLWithPath: folder + "/saved.json"))))
      #expect(saved.array?.count == 2, "\(outcome)")
      // Each token is a byte: fewer than were asked for.
      let written = saved.array?.last?["content"]?.string?.utf8.count ?? 0
      #expect((1..<80_000).contains(written), "\(written)")
      #expect(outcome.errors.contains("a second"))
    }
  }
}
