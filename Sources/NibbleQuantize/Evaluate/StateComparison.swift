import NibbleModel
import NibbleTensor

/// Compares two models by their hidden states after the last block. Holds the logits of some rows at
/// a time.
struct StateComparison {
  private let head: OutputHead
  private let baseHead: OutputHead
  private(set) var meter: LossMeter
  private var logits: [Float] = []
  private var baseLogits: [Float] = []

  init(_ head: OutputHead, against base: OutputHead, kinds: TextKinds? = nil) {
    self.head = head
    baseHead = base
    meter = LossMeter(kinds: kinds)
  }

  /// Compares all positions of a window but the last.
  ///
  /// - Parameters:
  ///   - states: `[t, hidden]`, one row per token of the window; `base` likewise.
  ///   - window: token ids.
  ///   - index: number of the window.
  mutating func add(
    _ states: [Float], against base: [Float], window: [Int], index: Int, _ pass: inout ForwardPass
  ) {
    let (width, vocabulary) = (pass.shape.hidden, pass.shape.vocabulary)
    for start in stride(from: 0, to: window.count - 1, by: logitRows) {
      let rows = start..<min(start + logitRows, window.count - 1)
      let values = rows.lowerBound * width..<rows.upperBound * width
      if logits.count != rows.count * vocabulary {
        logits = [Float](repeating: 0, count: rows.count * vocabulary)
        baseLogits = logits
      }
      pass.logits(Array(base[values]), baseHead, into: &baseLogits)
      pass.logits(Array(states[values]), head, into: &logits)
      meter.add(
        pass.compute.compare(
          logits.span, to: baseLogits.span, targets: rows.map { window[$0 + 1] }),
        window: index, from: start)
    }
  }
}

/// Rows of logits held in memory at once.
let logitRows = 256
