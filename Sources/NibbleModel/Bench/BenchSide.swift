import Foundation
import NibbleFormats

/// One side of a bench: a model in a program.
public enum BenchSide: Hashable, Sendable {
  /// This program; `arguments` choose the model and how it is loaded.
  case nibble(program: String, arguments: [String])
  /// llama.cpp's `llama-bench` on a GGUF file, with the same number of threads.
  case llamaCpp(program: String, model: String, threads: Int, more: [String])

  /// Runs one process that measures once.
  public func round(
    _ settings: BenchSettings, shouldStop: () -> Bool
  ) throws(ModelError) -> BenchFigures {
    switch self {
    case .nibble(let program, let arguments):
      let start = ProcessInfo.processInfo.systemUptime
      let process = try BenchProcess(
        program,
        arguments + [
          "--prompt-tokens", "\(settings.promptTokens)",
          "--decode-tokens", "\(settings.decodeTokens)", "--context", "\(settings.context)",
          "--one-round-since", "\(start)",
        ], shouldStop: shouldStop)
      guard let json = try? JSON(parsing: Array(process.output.utf8)),
        let figures = BenchFigures(json)
      else { throw .unsupported("\(program) did not print its figures: \(process.output)") }
      return figures
    case .llamaCpp(let program, let model, let threads, let more):
      let process = try BenchProcess(
        program,
        [
          "-m", model, "-t", "\(threads)", "-p", "\(settings.promptTokens)", "-n", "0", "-r", "1",
          "-o", "json",
        ] + more, shouldStop: shouldStop)
      let decode = try BenchProcess(
        program,
        [
          "-m", model, "-t", "\(threads)", "-p", "0", "-n", "\(settings.decodeTokens)",
          "-d", "\(settings.context)", "-r", "1", "-o", "json",
        ] + more, shouldStop: shouldStop)
      return BenchFigures(
        prefill: try LlamaBenchOutput.speed(process.output, program),
        decode: try LlamaBenchOutput.speed(decode.output, program),
        peakBytes: [process.peakBytes, decode.peakBytes].compactMap(\.self).max())
    }
  }
}

/// Output of `llama-bench -o json`: an array with one object per test.
enum LlamaBenchOutput {
  /// Tokens per second of the only test.
  static func speed(_ output: String, _ program: String) throws(ModelError) -> Double {
    guard let json = try? JSON(parsing: Array(output.utf8)), let tests = json.array,
      tests.count == 1, let speed = tests[0]["avg_ts"]?.double, speed > 0, speed.isFinite
    else {
      throw .unsupported(
        "\(program) did not print one test with avg_ts; give the path of llama.cpp's llama-bench")
    }
    return speed
  }
}
