package import NibbleModel
import NibbleTensor

/// A quantized model whose scales and norms are being learned. See `Tune`.
package struct Tuning {
  /// A sequence to learn from, or to measure on.
  struct Window {
    /// `[t, hidden]`: before the first block.
    let states: [Float]
    /// `[t, hidden]`: the source's, behind its last block.
    let wanted: [Float]
  }

  private let decoder: Decoder
  private let head: OutputHead
  private let sourceHead: OutputHead
  package let vectors: [TunedVector]
  /// Where the factors of each vector lie.
  private let ranges: [Range<Int>]
  /// Indices of the vectors of each block.
  private let ofBlock: [[Int]]
  /// Of all vectors, one after the other.
  package private(set) var factors: [Float]
  private var optimizer: AdamW
  private var pass: ForwardPass

  package init(
    _ decoder: Decoder, _ vectors: [TunedVector], source: OutputHead, _ pass: ForwardPass
  ) {
    self.decoder = decoder
    self.vectors = vectors
    self.pass = pass
    sourceHead = source
    head = OutputHead(decoder.ends, on: pass.compute)
    var end = 0
    ranges = vectors.map { vector in
      defer { end += vector.values.count }
      return end..<end + vector.values.count
    }
    var ofBlock = [[Int]](repeating: [], count: decoder.blocks.count)
    for (index, vector) in vectors.enumerated() {
      if case .block(let block, _) = vector.place { ofBlock[block].append(index) }
    }
    self.ofBlock = ofBlock
    factors = [Float](repeating: 1, count: end)
    optimizer = AdamW(count: end, rate: 0, decay: 0)
  }

  /// The current values of a vector.
  ///
  /// - Parameter stored: whether they are rounded to the format in which they are stored.
  package func values(of index: Int, stored: Bool) -> [Float] {
    let vector = vectors[index]
    let values = zip(vector.values, factors[ranges[index]]).map { $0 * $1 }
    return stored ? vector.stored(values) : values
  }

  private func block(_ index: Int, stored: Bool) -> Block {
    var block = decoder.blocks[index]
    for vector in ofBlock[index] {
      guard case .block(_, let parameter) = vectors[vector].place else { continue }
      let values = values(of: vector, stored: stored)
      block.replace(parameter, by: FloatRows(values, columns: values.count))
    }
    return block
  }

  private func head(stored: Bool) -> OutputHead {
    var head = head
    if let index = vectors.firstIndex(where: { $0.place == .finalNorm }) {
      head.replaceNorm(by: values(of: index, stored: stored))
    }
    return head
  }

  /// One step on some windows. Returns the mean loss before it; NaN if it led nowhere.
  mutating func learn(from windows: [Window], rate: Float, temperature: Float) -> Double {
    let (loss, gradients) = gradients(on: windows, temperature: temperature)
    guard loss.isFinite, gradients.areFinite else { return .nan }
    optimizer.rate = rate
    optimizer.move(&factors, against: gradients, on: pass.compute)
    for index in factors.indices {
      factors[index] = min(max(factors[index], Tune.factors.lowerBound), Tune.factors.upperBound)
    }
    return loss
  }

  /// The mean loss over the tokens of some windows, and its gradient by the factors.
  mutating func gradients(
    on windows: [Window], temperature: Float
  ) -> (loss: Double, gradients: [Float]) {
    let width = pass.shape.hidden
    let tokens = windows.reduce(0) { $0 + $1.states.count / width }
    var states = windows.map(\.states)
    // What enters each block, of each window.
    var entering: [[[Float]]] = []
    for index in decoder.blocks.indices {
      entering.append(states)
      let block = block(index, stored: false)
      for window in states.indices { pass.run(block, on: &states[window]) { _, _ in } }
    }
    var gradients = [Float](repeating: 0, count: factors.count)
    var loss = 0.0
    let head = head(stored: false)
    var ofStates: [FloatRows] = []
    for (window, states) in zip(windows, states) {
      let found = pass.divergence(
        of: states, head, from: window.wanted, sourceHead, temperature: temperature)
      loss += found.sum / Double(tokens)
      var gradient = found.ofStates
      let share = 1 / Float(tokens)
      for index in gradient.values.indices { gradient.values[index] *= share }
      ofStates.append(gradient)
      if let index = vectors.firstIndex(where: { $0.place == .finalNorm }), let norm = found.ofNorm
      {
        add(norm, times: share, of: index, to: &gradients)
      }
    }
    for index in decoder.blocks.indices.reversed() {
      let block = block(index, stored: false)
      let inputs = block.linears.compactMapValues(\.weight.inputRounding)
      var trained: [BlockParameter: FloatRows] = [:]
      for vector in ofBlock[index] {
        guard case .block(_, let parameter) = vectors[vector].place else { continue }
        trained[parameter] = block.value(of: parameter, on: pass.compute)
      }
      for window in windows.indices {
        let run = pass.record(
          block, on: entering[index][window], training: trained, roundingInputs: inputs,
          trainsStates: true)
        let found = run.gradients(ofStates[window])
        for vector in ofBlock[index] {
          guard case .block(_, let parameter) = vectors[vector].place,
            let gradient = found.parameters[parameter]
          else { continue }
          add(gradient, times: 1, of: vector, to: &gradients)
        }
        ofStates[window] = found.states ?? ofStates[window]
      }
      entering.removeLast()
    }
    return (loss, gradients)
  }

  /// Adds the gradient of a vector's factors, given that of its values.
  private func add(
    _ gradient: FloatRows, times share: Float, of index: Int, to sums: inout [Float]
  ) {
    for (place, at) in ranges[index].enumerated() {
      sums[at] += share * gradient.values[place] * vectors[index].values[place]
    }
  }

  /// KL divergence from the source at each position of some windows, in nats, with values as they are
  /// stored.
  mutating func divergences(on windows: [Window]) -> [Double] {
    let head = head(stored: true)
    return zip(windows, finalStates(of: windows)).flatMap { window, states in
      pass.divergences(of: states, head, from: window.wanted, sourceHead)
    }
  }

  /// Hidden states behind the last block, with values as they are stored.
  private mutating func finalStates(of windows: [Window]) -> [[Float]] {
    var states = windows.map(\.states)
    for index in decoder.blocks.indices {
      var block = block(index, stored: true)
      block.pack(on: pass.compute)
      for window in states.indices { pass.run(block, on: &states[window]) { _, _ in } }
    }
    return states
  }

  /// Compares the model, with values as they are stored, with the source.
  mutating func verdict(on windows: [Window], tokens: [[Int]], kinds: TextKinds?) -> Verdict? {
    var comparison = StateComparison(head(stored: true), against: sourceHead, kinds: kinds)
    for (index, states) in finalStates(of: windows).enumerated() {
      comparison.add(
        states, against: windows[index].wanted, window: tokens[index], index: index, &pass)
    }
    return Verdict(comparison.meter)
  }

  /// What the next step depends on.
  package var state: [[Float]] {
    get { [factors] + optimizer.moments }
    set {
      precondition(newValue.count == 3 && newValue.allSatisfy { $0.count == factors.count })
      factors = newValue[0]
      optimizer.moments = Array(newValue[1...])
    }
  }

  /// Sets the factors, and leaves what the next step depends on.
  package mutating func replaceFactors(by factors: [Float]) { self.factors = factors }

  /// Steps that were taken, which with `state` says what the next one does.
  package var steps: Int {
    get { optimizer.step }
    set { optimizer.step = newValue }
  }
}
