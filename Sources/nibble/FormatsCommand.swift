import ArgumentParser
import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct FormatsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "formats",
    abstract: "Say which number formats of 8 and 4 bits fit a model's weights and inputs best.",
    discussion: """
      Rounds every weight with one scale per channel, and what enters the linears with one scale per \
      tensor, to int8, E2M5, E3M4, E4M3, E5M2, int4 and E2M1, and prints the signal-to-noise ratio in dB. \
      Scales are those of the extremes; methods that search or compensate do better in any format.
      """)

  @Argument(help: "A Hugging Face folder or a .gguf file.")
  var model: String
  @Option(
    help: "Statistics of the model's inputs, from nibble calibrate; without them, weights alone.")
  var statistics: String?
  @OptionGroup var source: SourceOptions
  @OptionGroup var compute: ComputeOptions
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let checkpoint = try source.open(model)
    let study = try FormatStudy(
      of: checkpoint, statistics: statistics.map { try StatisticsFile(path: $0) },
      on: compute.compute(for: checkpoint)
    ) { done, total in Terminal.progress("[\(done)/\(total)] blocks") }
    if Terminal.isInteractive { Terminal.note("") }
    if json { return Terminal.print(study.json) }
    Terminal.write(FormatsTable(study: study).text)
  }
}

/// A study of formats as a table: a row per tensor, the best of each width marked.
struct FormatsTable {
  let study: FormatStudy

  var text: String {
    let widths = [NumberFormat.eightBits, NumberFormat.fourBits]
    let formats = widths.flatMap(\.self)
    var lines = [
      "dB      " + formats.map { Self.padded("\($0)") }.joined() + "  (* the best of its width)"
    ]
    for tensor in study.tensors {
      let best = Set(widths.compactMap { tensor.ranked($0).first })
      let cells = formats.map { format in
        let value = tensor.signalToNoise[format] ?? 0
        let text = value.isFinite ? String(format: "%.1f", value) : "exact"
        return Self.padded(text + (best.contains(format) ? "*" : " "))
      }
      lines.append(
        "\(tensor.kind == .weight ? "weight  " : "input   ")" + cells.joined() + "  \(tensor.path)")
    }
    for (kind, name) in [(FormatStudy.Tensor.Kind.weight, "weights"), (.input, "inputs")] {
      for formats in widths where study.tensors.contains(where: { $0.kind == kind }) {
        let wins = study.wins(kind, formats)
        let counts = formats.map { "\($0) \(wins[$0] ?? 0)" }.joined(separator: ", ")
        lines.append("best of \(formats[0].bits) bits, \(name): \(counts)")
      }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func padded(_ text: String) -> String {
    String(repeating: " ", count: max(0, 8 - text.count)) + text
  }
}
