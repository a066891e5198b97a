import ArgumentParser
import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleProcesses
import NibbleTensor

struct CompressCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compress",
    abstract: "Compress a W8A8S model for Ascend: W8A8SC, one part a rank.",
    discussion: """
      The model is split for tensor parallelism first; each rank's codes are then compressed without \
      loss. eval and run read the result, all parts joined. mpirun -np N nibble compress ... shares \
      the ranks out among N processes, in a build with --traits MPI.
      """)

  @Argument(help: "A W8A8S folder: quantize --recipe w8a8s, or msModelSlim's.")
  var model: String
  @Option(name: .shortAndLong, help: "Folder to write: new, empty, or of an unfinished run.")
  var output: String
  @Option(help: "Ranks that will run the model together.")
  var tp = 1
  @Flag(
    help: """
      Experimental: compress layers too whose outputs a rank are no multiple of 128, their last block \
      lying over its neighbour. Published files do not settle that layout.
      """)
  var overlapTail = false
  @Flag(
    help: """
      Name modules as MindIE's Llama classes hold them: query, key and value in one query_key_value, \
      gate and up in one gate_up_proj, smoothed norms as ori and anti.
      """)
  var fused = false
  @OptionGroup var config: ConfigOptions
  @Option(help: "Threads; the bytes do not depend on it. Default: one a processor.")
  var threads: Int?
  @Flag(help: "End with one JSON object on standard output.")
  var json = false

  func validate() throws {
    guard (1...1024).contains(tp) else { throw ValidationError("--tp is \(tp); use 1 to 1024.") }
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is \(threads); use 1 to 1024.")
    }
  }

  func run() throws {
    let clock = ContinuousClock()
    let start = clock.now
    let group = try ProcessGroup.join(ProcessInfo.processInfo.environment)
    let compression = try AscendCompression(
      config.open(model), ranks: tp, overlapsTail: overlapTail, fused: fused)
    if group.isFirst { for kept in summary(compression.kept) { Terminal.note(kept) } }
    if !fused, group.isFirst {
      Terminal.note(
        "MindIE's Llama classes read query_key_value and gate_up_proj: --fused names them so")
    }
    if overlapTail, group.isFirst {
      Terminal.note("experimental: overlapping blocks follow the consumer's kernel, untested on it")
    }
    Interrupt.watch()
    let report = try compression.run(
      to: output, on: Compute(threads: threads, precision: .f32), among: group,
      progress: { rank, layer in
        if group.isFirst { Terminal.progress("rank \(rank) of \(tp): \(layer) layers") }
      }, shouldStop: { Interrupt.isRequested })
    guard group.isFirst else { return }
    let seconds = (clock.now - start) / .seconds(1)
    if Terminal.isInteractive { Terminal.note("") }
    let bits = 8 * Double(report.compressedBytes) / Double(max(1, report.bytes))
    if json {
      return Terminal.print([
        "output": .string(output), "ranks": JSON(tp), "layers": JSON(report.layers),
        "bytes": JSON(report.bytes), "compressed_bytes": JSON(report.compressedBytes),
        "bits_per_weight": .number(bits), "seconds": .number(seconds),
        "kept": .array(compression.kept.map { .string($0.path) }),
      ])
    }
    Terminal.print(
      "wrote \(output): \(tp) parts, \(report.layers) weights of \(Terminal.bytes(report.bytes)) in "
        + "\(Terminal.bytes(report.compressedBytes)), \(Terminal.number(bits, 2)) bits a weight, "
        + "\(Terminal.number(seconds, 1)) s")
  }

  /// One line per kind of layer, for all blocks.
  private func summary(_ kept: [AscendCompression.Kept]) -> [String] {
    var lines: [String] = []
    var seen: Set<String> = []
    for layer in kept {
      let place = layer.path.split(separator: ".").suffix(2).joined(separator: ".")
      guard seen.insert(place).inserted else { continue }
      let count = kept.count { $0.path.hasSuffix("." + place) }
      let fitting = layer.fitting.map(String.init).joined(separator: ", ")
      lines.append(
        "\(layer.path) and \(count - 1) more stay W8A8S: \(layer.outputs) outputs a rank are no "
          + "multiple of 128; "
          + (fitting.isEmpty ? "no number of ranks changes that" : "--tp \(fitting) would"))
    }
    return lines
  }
}
