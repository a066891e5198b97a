import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor

/// The resolution of an evaluation: the source compared with itself, computed in another way.
struct NoiseFloor {
  private let comparison: Evaluation.Comparison
  /// What the second run changes.
  private let change: String

  init(
    _ decoder: Decoder, _ tokens: [Int], _ windows: EvaluationWindows, _ compute: Compute
  ) throws {
    let other = Compute(
      threads: compute.pool.threads, precision: compute.precision == .f32 ? .bf16 : .f32)
    change =
      "the source in \(compute.precision.rawValue) against itself in \(other.precision.rawValue), "
      + "with each window read in two parts"
    comparison = try Evaluation.noiseFloor(
      of: decoder, tokens: tokens, windows: windows, on: compute, changed: other
    ) { Terminal.progress("noise floor: window \($0) of \($1)") }
    if Terminal.isInteractive { Terminal.note("") }
  }

  /// - Parameter kl: the KL divergence to judge; nil for none.
  func lines(below kl: Double?) -> [String] {
    var lines = [
      "noise floor     KL \(Terminal.number(comparison.kl, 6)), top-1 agreement "
        + "\(Terminal.number(100 * comparison.top1, 2)) % (\(change))"
    ]
    if let kl, kl < 3 * comparison.kl {
      lines.append(
        "                the KL divergence is below three times that, which is no result")
    }
    return lines
  }

  var json: JSON {
    [
      "kl": .number(comparison.kl), "top1": .number(comparison.top1), "change": .string(change),
      "divergence": comparison.divergence?.json ?? .null,
    ]
  }
}
