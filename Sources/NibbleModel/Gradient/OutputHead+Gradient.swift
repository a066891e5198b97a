package import NibbleTensor

/// How far the next-token distributions of a model are from those of its source on one sequence, and
/// the gradient of that.
package struct HeadDivergence {
  /// `Σ_t T² KL(p ‖ q)`, in nats; p are the source's probabilities at the temperature T.
  package let sum: Double
  /// `[t, hidden]`: of the hidden states behind the last block.
  package let ofStates: FloatRows
  /// Of the final norm's weight, with its offset; nil without a final norm.
  package let ofNorm: FloatRows?
}

extension ForwardPass {
  /// The divergence of a model from its source, by their hidden states behind the last block.
  ///
  /// - Parameters:
  ///   - states: `[t, hidden]`; those of the source likewise.
  ///   - temperature: T, above zero.
  package func divergence(
    of states: [Float], _ head: OutputHead, from base: [Float], _ baseHead: OutputHead,
    temperature: Float = 1
  ) -> HeadDivergence {
    var tape = Tape(on: compute)
    let start = tape.parameter(FloatRows(states, columns: shape.hidden))
    var input = start
    var weight: Tape.Node?
    if let norm = head.norm {
      let node = tape.parameter(FloatRows(norm.weight, columns: norm.weight.count))
      let primitive = NormPrimitive(
        centers: norm.shape.kind == .layer, epsilon: norm.shape.epsilon)
      if let bias = norm.bias {
        let bias = tape.constant(FloatRows(bias, columns: bias.count))
        input = tape.apply(primitive, input, node, bias)
      } else {
        input = tape.apply(primitive, input, node)
      }
      weight = node
    }
    if let projection = head.projection {
      let matrix = tape.constant(FloatRows(projection.weight, on: compute))
      input = tape.apply(LinearPrimitive(), input, matrix)
    }
    if head.shape.scale != 1 { input = tape.apply(ScalePrimitive(head.shape.scale), input) }
    var sum = 0.0
    var ofInput: [Float] = []
    let vocabulary = shape.vocabulary
    forEachLogits(states, head, base, baseHead) { rows, logits, baseLogits in
      let capped = head.shape.softCap == nil ? [] : logits
      sum += compute.divergenceGradient(
        &logits, from: &baseLogits, rows: rows, temperature: temperature
      ).reduce(0, +)
      if let cap = head.shape.softCap {
        // y = c tanh(x / c): dy/dx = 1 - (y / c)².
        for index in logits.indices {
          let share = capped[index] / cap
          logits[index] *= 1 - share * share
        }
      }
      ofInput +=
        FloatRows(logits, columns: vocabulary).times(head.weight.weight, on: compute).values
    }
    let found = tape.gradients(of: input, FloatRows(ofInput, columns: tape[input].columns))
    return HeadDivergence(
      sum: sum, ofStates: found[start] ?? FloatRows(ofInput, columns: shape.hidden),
      ofNorm: weight.flatMap { found[$0] })
  }

  /// `KL(p ‖ q)` of each row, in nats. As `divergence`, without gradients.
  package func divergences(
    of states: [Float], _ head: OutputHead, from base: [Float], _ baseHead: OutputHead
  ) -> [Double] {
    var divergences: [Double] = []
    forEachLogits(states, head, base, baseHead) { rows, logits, baseLogits in
      let targets = [Int](repeating: 0, count: rows)
      divergences += compute.compare(logits.span, to: baseLogits.span, targets: targets).map(
        \.divergence)
    }
    return divergences
  }

  /// Computes the logits of two models, some rows at a time.
  private func forEachLogits(
    _ states: [Float], _ head: OutputHead, _ base: [Float], _ baseHead: OutputHead,
    _ body: (_ rows: Int, _ logits: inout [Float], _ base: inout [Float]) -> Void
  ) {
    let (width, vocabulary) = (shape.hidden, shape.vocabulary)
    let tokens = states.count / width
    let grain = max(1, Self.logitsAtOnce / vocabulary)
    for start in stride(from: 0, to: tokens, by: grain) {
      let rows = start..<min(start + grain, tokens)
      let part = rows.lowerBound * width..<rows.upperBound * width
      var logits = [Float](repeating: 0, count: rows.count * vocabulary)
      var baseLogits = logits
      self.logits(Array(states[part]), head, into: &logits)
      self.logits(Array(base[part]), baseHead, into: &baseLogits)
      body(rows.count, &logits, &baseLogits)
    }
  }

  /// Logits in memory at once: rows of a vocabulary are computed in groups.
  private static let logitsAtOnce = 8 << 20
}

extension OutputHead {
  /// Replaces the weight of the final norm, with its offset.
  package mutating func replaceNorm(by weight: [Float]) { norm?.weight = weight }

  /// The weight of the final norm, with its offset.
  package var normWeight: [Float]? { norm?.weight }
}
