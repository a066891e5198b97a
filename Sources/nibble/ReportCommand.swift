import ArgumentParser
import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Print what a quantization did: its verdict, its steps, its least exact layers.",
    discussion: "Reads nibble_report.json of a folder that nibble quantize wrote; measures nothing."
  )

  @Argument(help: "A folder that nibble quantize wrote.")
  var model: String
  @Option(help: "How many layers to print, the least exact first.")
  var top = 10
  @Flag(help: "Also print what each step did.")
  var steps = false
  @Flag(help: "Print the file as one line of JSON.")
  var json = false

  func run() throws {
    let path = model + "/" + CompanionFiles.reportName
    let file = try MappedFile(path: path)
    guard file.count <= 64 << 20 else {
      throw ModelError.unsupported("\(path): \(file.count) bytes are no report")
    }
    let report = try JSON(parsing: Bytes(file, 0..<file.count).array)
    guard report["recipe"]?.string != nil, let layers = report["layers"]?.array else {
      throw ModelError.unsupported("\(path): is not a report of nibble quantize")
    }
    if json { return Terminal.print(report) }
    Terminal.write((head(report) + stepLines(report) + rows(layers)).joined(separator: "\n") + "\n")
  }

  private func head(_ report: JSON) -> [String] {
    var lines = [
      "recipe \(report["recipe"]?.string ?? ""), \(report["format"]?.string ?? ""): "
        + "\(Terminal.bytes(report["source_bytes"]?.int ?? 0)) -> "
        + Terminal.bytes(report["bytes"]?.int ?? 0)
    ]
    func number(_ name: String, _ digits: Int) -> String {
      report["verdict"]?[name]?.double.map { Terminal.number($0, digits) } ?? "unknown"
    }
    if report["verdict"]?["kl"] != nil {
      lines.append(
        "KL divergence \(number("kl", 4)) (bound \(number("kl_bound", 4))), top-1 agreement "
          + "\(number("top1", 4)), perplexity \(number("perplexity", 4)) (source "
          + "\(number("source_perplexity", 4)))")
      if let divergence = report["verdict"]?["divergence"], divergence.object != nil {
        func detail(_ name: String) -> String {
          divergence[name]?.double.map { Terminal.number($0) } ?? "unknown"
        }
        lines.append(
          "KL by token: median \(detail("kl_median")), p90 \(detail("kl_p90")), p99 "
            + "\(detail("kl_p99")), largest \(detail("kl_max")); top-5 kept \(detail("top5")); ln of "
            + "the perplexity ratio \(detail("ln_perplexity_ratio"))")
      }
    } else if let reason = report["verdict"]?.string {
      lines.append("verdict: \(reason)")
    }
    if let cache = report["kv_cache"]?.string {
      lines.append("scales of the cache of keys and values: \(cache)")
    }
    let kept = (report["kept_float"]?.array ?? []).compactMap { $0["path"]?.string }
    if !kept.isEmpty {
      let more = kept.count > 8 ? " and \(kept.count - 8) more" : ""
      lines.append("float: \(kept.prefix(8).joined(separator: ", "))\(more)")
    }
    return lines
  }

  private func stepLines(_ report: JSON) -> [String] {
    guard steps else { return [] }
    return (report["steps"]?.array ?? []).map { step in
      "block \(step["block"]?.int ?? 0) \(step["site"]?.string ?? "") "
        + "\(step["step"]?.string ?? ""): \(step["result"]?.string ?? "")"
    }
  }

  private func rows(_ layers: [JSON]) -> [String] {
    let noisy = layers.enumerated().compactMap { index, layer in
      layer["sqnr_db"]?.double.map { (index, $0, layer["path"]?.string ?? "") }
    }.sorted { ($0.1, $0.0) < ($1.1, $1.0) }
    guard let worst = noisy.first else { return ["no layer lost anything"] }
    return ["signal to quantization noise of the weights, the least exact first:"]
      + noisy.prefix(max(0, top)).map { String(format: "%6.1f dB  ", $0.1) + $0.2 }
      + [
        "nibble sensitivity says what each costs the model; quantize --keep-float 5% keeps the "
          + "costliest float. Least exact: \(worst.2)."
      ]
  }
}
