import Foundation
import Testing

@Suite struct HelpTests {
  static let commands = [
    "pull", "inspect", "plan", "sensitivity", "search", "formats", "calibrate", "quantize", "tune",
    "compress",
    "check", "report", "eval", "run", "chat", "bench", "tokenize", "logits",
  ]

  @Test func helpNamesEveryCommandAndEveryExitStatus() throws {
    let outcome = try nibble("--help")
    #expect(outcome.status == 0)
    for word in Self.commands + ["64", "65", "66", "73", "75"] {
      #expect(outcome.output.contains(word), "\(word)")
    }
    #expect(try nibble("--version").output.count > 2)
  }

  @Test(arguments: commands) func everyCommandExplainsItself(_ command: String) throws {
    let outcome = try nibble(command, "--help")
    #expect(outcome.status == 0 && outcome.output.contains("USAGE: nibble \(command)"))
    // Every option says what it does.
    #expect(outcome.output.contains("OVERVIEW: ") && !outcome.output.contains("spill"))
    #expect(try nibble("help", command).output == outcome.output)
  }

  @Test(arguments: ["bash", "zsh", "fish"]) func completionsAreMade(_ shell: String) throws {
    let outcome = try nibble("--generate-completion-script", shell)
    #expect(outcome.status == 0)
    for word in Self.commands + ["max-kl"] { #expect(outcome.output.contains(word), "\(word)") }
  }
}
