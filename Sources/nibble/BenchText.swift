import NibbleModel
import NibbleTensor

/// A bench report as text.
struct BenchText {
  private let report: BenchReport
  private let names: [String]

  init(_ report: BenchReport, _ names: [String]) {
    self.report = report
    self.names = names
  }

  var text: String {
    let settings = report.settings
    var lines: [String] = []
    for (name, figures) in zip(names, report.sides) {
      lines.append(name)
      lines.append(
        "  prefill \(settings.promptTokens)     \(Terminal.number(figures.prefill, 1)) tokens/s"
          + share(report.operationsPerSecond(figures), report.arithmeticShare(figures)))
      lines.append(
        "  decode \(settings.decodeTokens)      \(Terminal.number(figures.decode, 1)) tokens/s"
          + (settings.context > 0 ? " after \(settings.context) tokens" : "")
          + share(report.bytesPerSecond(figures), report.bandwidthShare(figures), "B"))
      if let first = figures.firstToken, let loading = figures.loading {
        lines.append(
          "  first token     \(Terminal.number(first, 3)) s from the start, of which loading "
            + "\(Terminal.number(loading, 3)) s")
      }
      if let peak = figures.peakBytes { lines.append("  peak memory     \(Terminal.bytes(peak))") }
      if let work = figures.work {
        lines.append("  weights read    \(Terminal.bytes(work.weightBytes)) a token")
      }
    }
    if let other = report.other {
      lines.append(
        "ours / the other: prefill \(Terminal.number(report.ours.prefill / other.prefill, 2)), decode "
          + Terminal.number(report.ours.decode / other.decode, 2))
    }
    let peaks = report.limits.peak.sorted { $0.key.rawValue < $1.key.rawValue }.map {
      "\($0.key.rawValue) \(Terminal.number($0.value / 1e9, 0))"
    }
    lines.append(
      "this machine, \(report.threads) threads: reads "
        + "\(Terminal.number(report.limits.readBandwidth / 1e9, 1)) GB/s; billions of operations a "
        + "second: \(peaks.joined(separator: ", "))")
    lines.append("medians of \(report.rounds) rounds")
    return lines.joined(separator: "\n") + "\n"
  }

  private func share(_ rate: Double?, _ share: Double?, _ unit: String = "OPS") -> String {
    guard let rate else { return "" }
    let part = share.map { ", \(Terminal.number(100 * $0, 0)) % of the machine's" } ?? ""
    return "  (\(Terminal.number(rate / 1e9, 1)) G\(unit)\(unit == "B" ? "/s" : "")\(part))"
  }
}
