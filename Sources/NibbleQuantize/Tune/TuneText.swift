package import NibbleModel
package import NibbleTensor

/// The windows that a model is tuned and measured on, with the source's hidden states behind its last
/// block.
package struct TuneText {
  private let tokens: [[Int]]
  private let wanted: WindowStates
  private let ends: DecoderEnds
  private let compute: Compute
  /// Indices of the windows that are learned from.
  private let learned: [Int]
  /// Indices of the windows kept out, in sets.
  package let checked: [[Int]]
  /// Indices of the windows of the verdict.
  package let heldOut: [Int]

  /// Windows of a set that is kept out.
  private static let checkedWindows = 4

  /// - Parameters:
  ///   - calibration: some are kept out.
  ///   - other: windows of other text, all kept out; may be empty.
  ///   - folder: where hidden states lie that take too much memory.
  package init(
    calibration: [[Int]], other: [[Int]], heldOut: [[Int]], for settings: Tune,
    of model: Decoder, source: Decoder, in folder: String, on compute: Compute
  ) throws(QuantizeError) {
    let usable = calibration.filter { $0.count > 1 }
    let isKeptOut = usable.indices.map { Alignment.keepsOut(window: $0, of: usable.count) }
    let keptOut = usable.indices.filter { isKeptOut[$0] }.prefix(Self.checkedWindows)
    // No more than the steps read.
    let length = usable.map(\.count).min() ?? 1
    let needed = settings.steps * ((settings.tokens + length - 1) / max(1, length))
    let kept = usable.indices.filter { !isKeptOut[$0] }.prefix(needed)
    guard !kept.isEmpty, !keptOut.isEmpty else {
      throw .unmeasurable(
        "tuning needs two windows of text or more, to learn from one and measure on another. Give more "
          + "text, or a shorter --sample-length.")
    }
    let others = other.filter { $0.count > 1 }.prefix(Self.checkedWindows)
    tokens = kept.map { usable[$0] } + keptOut.map { usable[$0] } + others + heldOut
    learned = Array(0..<kept.count)
    let first = kept.count
    let second = first + keptOut.count
    let third = second + others.count
    checked = [Array(first..<second), Array(second..<third)].filter { !$0.isEmpty }
    self.heldOut = Array(third..<tokens.count)
    self.compute = compute
    ends = model.ends
    wanted = try Self.final(source, tokens, in: folder, on: compute)
  }

  /// Hidden states behind the last block.
  private static func final(
    _ decoder: Decoder, _ windows: [[Int]], in folder: String, on compute: Compute
  ) throws(QuantizeError) -> WindowStates {
    var states = try WindowStates(
      sizes: windows.map { $0.count * decoder.shape.stateWidth }, in: folder)
    var pass: ForwardPass
    do {
      for (index, window) in windows.enumerated() {
        states[index] = try decoder.ends.states(of: window, on: compute)
      }
      pass = try ForwardPass(
        decoder.shape, positions: windows.map(\.count).max() ?? 1, on: compute)
    } catch { throw .model(error) }
    for block in decoder.blocks {
      var packed = block
      packed.pack(on: compute)
      for index in windows.indices { pass.run(packed, on: &states[index]) { _, _ in } }
      block.release()
    }
    return states
  }

  package var longest: Int { tokens.map(\.count).max() ?? 1 }

  /// The windows of a step: they take turns.
  func batch(_ step: Int, tokens wanted: Int) -> [Int] {
    let length = learned.map { tokens[$0].count }.min() ?? 1
    let count = min(learned.count, (wanted + length - 1) / length)
    return (0..<count).map { learned[(step * count + $0) % learned.count] }
  }

  func windows(_ indices: [Int]) throws(QuantizeError) -> [Tuning.Window] {
    var windows: [Tuning.Window] = []
    for index in indices {
      do {
        windows.append(
          Tuning.Window(
            states: try ends.states(of: tokens[index], on: compute), wanted: wanted[index]))
      } catch { throw .model(error) }
    }
    return windows
  }

  /// Compares a model that is tuned with the source on the windows of the verdict.
  ///
  /// - Parameter kinds: of these windows; nil when unknown.
  package func verdict(
    on tuning: Tuning, kinds: TextKinds?
  ) throws(QuantizeError) -> Verdict? {
    guard !heldOut.isEmpty else { return nil }
    var tuning = tuning
    return tuning.verdict(
      on: try windows(heldOut), tokens: heldOut.map { tokens[$0] }, kinds: kinds)
  }
}
