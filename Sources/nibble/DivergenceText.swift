import Foundation
import NibbleFormats
import NibbleQuantize

/// What a comparison with the source says beyond its means, in lines.
struct DivergenceText {
  private let divergence: Divergence

  init(_ divergence: Divergence) { self.divergence = divergence }

  /// - Parameters:
  ///   - indent: before each line.
  ///   - width: of the names of the values.
  func lines(indent: String = "", width: Int) -> [String] {
    rows.map { name, value in
      indent + name.padding(toLength: width, withPad: " ", startingAt: 0) + value
    }
  }

  private var rows: [(name: String, value: String)] {
    var rows = [
      (
        "KL by token",
        "median \(number(divergence.median)), p90 \(number(divergence.p90)), "
          + "p99 \(number(divergence.p99)), largest \(number(divergence.maximum))"
      ),
      ("KL by position", parts(divergence.byPosition)),
    ]
    if !divergence.byKind.isEmpty { rows.append(("KL by kind", parts(divergence.byKind))) }
    rows += [
      ("top-5 kept", "\(Terminal.number(100 * divergence.top5, 1)) %"),
      (
        "p(token)",
        "changes by \(signed(divergence.probabilityChange)) on average, "
          + "\(number(divergence.probabilityChangeRMS)) root mean square"
      ),
      ("ln ppl ratio", signed(divergence.lossChange)),
    ]
    if let interval = divergence.interval, let change = divergence.lossChangeInterval {
      rows.append(
        (
          "95 % intervals",
          "KL \(number(interval.lower)) to \(number(interval.upper)), ln ppl ratio "
            + "\(signed(change.lower)) to \(signed(change.upper)), from \(divergence.windows) windows"
        ))
    }
    return rows
  }

  private func parts(_ parts: [Divergence.Part]) -> String {
    parts.map { "\($0.name): \(number($0.kl))" }.joined(separator: ", ")
  }

  private func number(_ value: Double) -> String { Terminal.number(value) }

  private func signed(_ value: Double) -> String { String(format: "%+.4f", value) }
}
