import ArgumentParser
import Foundation
import NibbleEngines
import NibbleModel
import NibbleTensor

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure how fast a model runs, beside what this machine can do.",
    discussion: """
      Each round is a process of its own; with another side the two take turns. Figures are medians. \
      Time to first token counts from the start of the process, loading included. weight_bytes is \
      what one written token reads. Keep the machine otherwise idle.
      """)

  @Argument(help: "A Hugging Face folder, float or quantized, or a .gguf file.")
  var model: String
  @Option(help: "A model to compare with, in turn.")
  var against: String?
  @Option(help: "llama.cpp's llama-bench to compare with, in turn; needs --gguf.")
  var llamaCpp: String?
  @Option(help: "The GGUF file that llama-bench runs.")
  var gguf: String?
  @Option(
    parsing: .unconditional,
    help: "Options for llama-bench in one word, such as \"-fa 1 -ctk q8_0 -ctv q8_0\".")
  var llamaOptions = ""
  @Option(help: "Tokens of the prompt that is read.")
  var promptTokens = 512
  @Option(help: "Tokens that are written.")
  var decodeTokens = 128
  @Option(help: "Tokens that stand before the first one written.")
  var context = 0
  @Option(help: "Rounds of each side.")
  var rounds = 3
  @OptionGroup var load: LoadOptions
  @OptionGroup var compute: ComputeOptions
  @Flag(help: "Print one JSON object.")
  var json = false
  @Option(help: .hidden)
  var oneRoundSince: Double?

  private var settings: BenchSettings {
    BenchSettings(promptTokens: promptTokens, decodeTokens: decodeTokens, context: context)
  }

  func validate() throws {
    if let fault = settings.fault { throw ValidationError("\(fault).") }
    guard (1...1000).contains(rounds) else {
      throw ValidationError("--rounds is \(rounds); use 1 to 1000.")
    }
    guard (llamaCpp == nil) == (gguf == nil) else {
      throw ValidationError("--llama-cpp PROGRAM and --gguf FILE go together.")
    }
    guard llamaCpp == nil || against == nil else {
      throw ValidationError("--against and --llama-cpp both name the other side; give one of them.")
    }
    guard llamaOptions.isEmpty || llamaCpp != nil else {
      throw ValidationError("--llama-options needs --llama-cpp.")
    }
  }

  func run() throws {
    if let oneRoundSince { return try oneRound(since: oneRoundSince) }
    _ = try load.config.openLoadable(model)
    let other = try against.map { try LoadedModel.checkpoint(at: $0) }
    let computing = Compute(threads: compute.threads, precision: .f32)
    let threads = computing.pool.threads
    var sides = [side(model, load.arguments)]
    if let against, let other {
      sides.append(side(against, load.config.arguments(for: other)))
    }
    if let llamaCpp, let gguf {
      sides.append(
        .llamaCpp(
          program: llamaCpp, model: gguf, threads: threads,
          more: llamaOptions.split(separator: " ").map(String.init)))
    }
    let names = [model, against ?? gguf ?? ""]
    Interrupt.watch()
    let report = try Bench(sides, settings, rounds: rounds).run(on: computing) {
      round, side, figures in
      Terminal.progress(
        "[\(round + 1)/\(rounds)] \(names[side]): prefill \(Terminal.number(figures.prefill, 0)), "
          + "decode \(Terminal.number(figures.decode, 1)) tokens a second")
    } shouldStop: {
      Interrupt.isRequested
    }
    if Terminal.isInteractive { Terminal.note("") }
    if json { Terminal.print(report.json) } else { Terminal.write(BenchText(report, names).text) }
  }

  /// This program as a new process that has done no other work.
  private func side(_ model: String, _ options: [String]) -> BenchSide {
    .nibble(
      program: Bundle.main.executablePath ?? CommandLine.arguments[0],
      arguments: ["bench", model] + options + compute.arguments)
  }

  private func oneRound(since start: Double) throws {
    let figures = try BenchRound(settings).run(since: start, keeping: load.kv ?? .f16) {
      let (loaded, computing) = try load.load(model, compute)
      _ = try loaded.checkpoint.tokenizer()
      return (loaded.decoder, computing)
    }
    Terminal.print(figures.json)
  }
}
