import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import NibbleText
import Testing
import TinyModel

/// Sessions whose cache quantizes keys in groups of tokens.
@Suite struct GroupedSessionTests {
  private let compute = Compute(threads: 2, precision: .f32)

  private func decoder(in folder: String) throws -> Decoder {
    var model = TinyModel()
    (model.blocks, model.hidden, model.intermediate) = (2, 64, 96)
    (model.heads, model.keyHeads, model.headSize, model.vocabulary) = (4, 2, 16, 256)
    try model.write(in: folder, config: [:])
    return try LoadedModel(path: folder).decoder
  }

  private func tokens(_ count: Int, seed: Int, below vocabulary: Int) -> [Int] {
    (0..<count).map { ($0 * $0 * 31 + $0 * seed + seed) % vocabulary }
  }

  /// Logits after each part.
  private func logits(_ session: inout Session, _ tokens: [Int], parts: Int) throws -> [[Float]] {
    var all: [[Float]] = []
    for at in stride(from: 0, to: tokens.count, by: parts) {
      all.append(try session.append(Array(tokens[at..<min(at + parts, tokens.count)])))
    }
    return all
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Double {
    let energy = errorEnergy(of: a.span, against: b.span)
    return (energy.error / energy.signal).squareRoot()
  }

  @Test func stepsOfSeveralTokensGiveTheBitsOfEachAlone() throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder)
      let tokens = tokens(150, seed: 7, below: 256)
      func last(_ format: CacheFormat, parts: Int) throws -> [Float] {
        var session = try Session(decoder, capacity: 150, keeping: format, on: compute)
        return try #require(try logits(&session, tokens, parts: parts).last)
      }
      let alone = try last(.int4, parts: 1)
      #expect(try last(.int4, parts: 5) == alone)
      #expect(try last(.int4, parts: 6) == alone)
      // A last bit of a hidden state may change a code.
      #expect(distance(try last(.int4, parts: 150), alone) < 2e-3)
      #expect(distance(try last(.int4, parts: 70), alone) < 2e-3)
      let float = try last(.f32, parts: 1)
      let lost = distance(alone, float)
      let lostByThree = distance(try last(.int3, parts: 1), float)
      #expect(lost > 1e-4 && lost < lostByThree)
    }
  }

  @Test(arguments: [(140, 139), (140, 133), (140, 107), (140, 100), (140, 75), (96, 64), (90, 20)])
  func tokensTakenBackLeaveNoTrace(_ end: Int, _ right: Int) throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder)
      let (tokens, others) = (tokens(150, seed: 7, below: 256), tokens(150, seed: 11, below: 256))
      var fresh = try Session(decoder, capacity: 150, keeping: .int4, on: compute)
      let expected = try logits(&fresh, tokens, parts: 1)
      var session = try Session(decoder, capacity: 150, keeping: .int4, on: compute)
      _ = try logits(&session, Array(tokens[..<right] + others[right..<end]), parts: 1)
      session.truncate(to: right)
      let isNear = right < 32 || right % 32 == 0 || right / 32 * 32 >= end - 64
      #expect(session.count == (isNear ? right : right / 32 * 32))
      let count = session.count
      let again = try logits(&session, Array(tokens[count...]), parts: 1)
      #expect(again == Array(expected[count...]))
    }
  }

  /// Gemma 4's last blocks read the cache of earlier ones; others see a window.
  @Test(arguments: FamilyFixture.models(of: ["gemma4", "gemma3"]))
  func sharedCachesAndWindowsReadTheSame(_ model: FamilyFixture) throws {
    try inTemporaryFolder { folder in
      try model.write(in: folder)
      let checkpoint = try Checkpoint(path: folder)
      let decoder = try Decoder(checkpoint.decoderShape(), from: checkpoint)
      let tokens = tokens(100, seed: 3, below: decoder.shape.vocabulary)
      func last(_ format: CacheFormat, parts: Int) throws -> [Float] {
        var session = try Session(decoder, capacity: 100, keeping: format, on: compute)
        return try #require(try logits(&session, tokens, parts: parts).last)
      }
      let alone = try last(.int4, parts: 1)
      #expect(try last(.int4, parts: 7) == alone)
      #expect(distance(try last(.int4, parts: 100), alone) < 5e-3)
      #expect(distance(try last(.int4, parts: 45), alone) < 5e-3)
      #expect(distance(alone, try last(.f32, parts: 1)) < 0.1)
    }
  }

  @Test func promptLookupKeepsTheText() throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder)
      func answer(_ lookup: PromptLookup?) throws -> [Int] {
        var generator = try Generator(
          decoder, tokenizer: Tokenizer(tokenizerJSON: ByteTokenizer.json, config: nil),
          capacity: 250, keeping: .int4, on: compute)
        generator.promptLookup = lookup
        return try generator.answer(
          to: Array("abcabcabcabcabc".utf8).map(Int.init), limit: 200, sampling: Sampling()
        ) { _ in true }.tokens
      }
      let alone = try answer(nil)
      #expect(try answer(PromptLookup(tokens: 7)) == alone)
      let error = #expect(throws: ModelError.self) { try answer(PromptLookup(tokens: 8)) }
      #expect(error.map { "\($0)" }?.contains("int4 cache rounds") == true)
    }
  }
}
