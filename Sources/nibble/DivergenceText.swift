import Foundation
import NibbleFormats
import NibbleQuantize

/// What a comparison with the source says beyond its means, in lines.
struct DivergenceText {
  let divergence: Divergence

  init(_ divergence: Divergence) { self.divergence = divergence }

  var lines: [String] {
    var lines = [
      "  KL by token    median \(number(divergence.median)), p90 \(number(divergence.p90)), "
        + "p99 \(number(divergence.p99)), largest \(number(divergence.maximum))",
      "  top-5 kept     \(Terminal.number(100 * divergence.top5, 1)) %",
      "  p(token)       changes by \(signed(divergence.probabilityChange)) on average, "
        + "\(number(divergence.probabilityChangeRMS)) root mean square",
      "  ln ppl ratio   \(signed(divergence.lossChange))",
    ]
    if let interval = divergence.interval, let change = divergence.lossChangeInterval {
      lines[3] += ", 95 % \(signed(change.lower)) to \(signed(change.upper))"
      lines.append(
        "  KL 95 %        \(number(interval.lower)) to \(number(interval.upper)), resampling "
          + "\(divergence.windows) windows")
    } else {
      lines.append("  no intervals   they resample windows, and there is one")
    }
    lines.append("  KL by position \(parts(divergence.byPosition))")
    if !divergence.byKind.isEmpty { lines.append("  KL by kind     \(parts(divergence.byKind))") }
    return lines
  }

  private func parts(_ parts: [Divergence.Part]) -> String {
    parts.map { "\($0.name): \(number($0.kl))" }.joined(separator: ", ")
  }

  private func number(_ value: Double) -> String { Terminal.number(value) }

  private func signed(_ value: Double) -> String { String(format: "%+.4f", value) }
}
