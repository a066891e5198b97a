import NibbleModel
import NibbleTensor

extension Decoder {
  /// Logits `[t, vocabulary]` of all tokens of a text, in one pass.
  func logits(of tokens: [Int], on compute: Compute) throws -> [Float] {
    var session = try Session(self, capacity: tokens.count, on: compute)
    let states = try session.states(after: tokens)
    var logits: [Float] = []
    session.withLogits(states, 0..<tokens.count) { logits = $0 }
    return logits
  }
}
