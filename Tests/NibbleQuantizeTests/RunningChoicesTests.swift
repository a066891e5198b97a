import NibbleEngines
import NibbleModel
import NibbleQuantize
import NibbleTensor
import Testing
import TinyModel

/// What a running model may round that its scheme leaves float.
@Suite struct RunningChoicesTests {
  private let compute = Compute(threads: 2, precision: .f32)
  private let tokens = (0..<90).map { ($0 * 7 + $0 / 5) % 60 }

  private func model(in folder: String) throws -> Decoder {
    var model = TinyModel()
    (model.blocks, model.hidden, model.intermediate) = (2, 64, 128)
    (model.heads, model.keyHeads, model.headSize, model.vocabulary) = (4, 2, 16, 64)
    try model.write(in: folder, config: [:])
    return try LoadedModel(
      path: folder, rounding: try Recipe.preset("w4a16", group: 32), on: compute
    ).decoder
  }

  /// Logits after each token but those read first, one at a time.
  private func logits(
    _ decoder: Decoder, keeping format: CacheFormat = .f32, readFirst: Int = 60
  ) throws -> [Float] {
    var session = try Session(
      decoder, capacity: tokens.count, keeping: format, on: compute)
    var all = try session.append(Array(tokens[..<readFirst]))
    for token in tokens[readFirst...] { all += try session.append([token]) }
    return all
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Double {
    let energy = errorEnergy(of: a.span, against: b.span)
    return (energy.error / energy.signal).squareRoot()
  }

  @Test func int8ActivationsChangeLittle() throws {
    try inTemporaryFolder { folder in
      let decoder = try model(in: folder)
      let exact = try logits(decoder)
      let rounded = try logits(decoder.running(floatActivations: .int8))
      // Steps of a 254th of a group's range, seven roundings in a row.
      let far = distance(rounded, exact)
      #expect(far > 0 && far < 0.03)
      #expect(try logits(decoder.running(floatActivations: .float)) == exact)
    }
  }

  /// A page holds 64 tokens: the 90 here cross one, in the prompt or in steps.
  @Test(
    arguments: [
      (CacheFormat.f16, 0.001), (.int8, 0.02), (.fp8, 0.06), (.int4, 0.1), (.int3, 0.2),
    ], [60, 70])
  func keptKeysAndValuesChangeLittle(_ kept: (CacheFormat, Double), _ readFirst: Int) throws {
    try inTemporaryFolder { folder in
      let decoder = try model(in: folder)
      let exact = try logits(decoder, readFirst: readFirst)
      let far = distance(try logits(decoder, keeping: kept.0, readFirst: readFirst), exact)
      #expect(far > 0 && far < kept.1, "\(far)")
    }
  }

  /// A calibrated scale takes the place of each token's own.
  @Test func calibratedScalesAreUsed() throws {
    try inTemporaryFolder { folder in
      let decoder = try model(in: folder)
      let blocks = decoder.shape.blocks.count
      let wide = try #require(
        KeyValueScales(.int8, keys: [1, 1], values: [1, 1]))
      func last(_ scales: [KeyValueScales]?) throws -> [Float] {
        var session = try Session(
          decoder, capacity: tokens.count, keeping: .int8, scales: scales, on: compute)
        return try session.append(tokens)
      }
      let own = try last(nil)
      #expect(try last(Array(repeating: wide, count: blocks)) != own)
      // Scales of another format are none.
      let other = try #require(KeyValueScales(.fp8, keys: [1], values: [1]))
      #expect(try last(Array(repeating: other, count: blocks)) == own)
    }
  }

  /// Panels, tiles and codes where they lie hold the same model, whose steps read it once.
  @Test func severalSequencesOfAStepGiveTheSameLogits() throws {
    try inTemporaryFolder { folder in
      let decoder = try model(in: folder).running(floatActivations: .int8)
      var session = try Session(decoder, capacity: 8, on: compute)
      let states = try session.states(after: Array(tokens[..<4]))
      var together: [Float] = []
      session.withLogits(states, 0..<4) { together = $0 }
      session.truncate(to: 0)
      var alone: [Float] = []
      for token in tokens[..<4] { alone += try session.append([token]) }
      #expect(together == alone)
    }
  }
}
