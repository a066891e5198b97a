import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import NibbleText
import Testing
import TinyModel

@Suite struct GeneratorTests {
  private func generator(
    in folder: String, capacity: Int = 200, config: [String: JSON] = [:]
  ) throws -> Generator {
    var model = TinyModel()
    (model.blocks, model.vocabulary) = (1, 256)
    try model.write(in: folder, config: config)
    return try Generator(
      LoadedModel(path: folder).decoder,
      tokenizer: Tokenizer(tokenizerJSON: ByteTokenizer.json, config: nil), capacity: capacity,
      on: Compute(threads: 1, precision: .f32))
  }

  private func sampling(_ change: (inout Sampling) -> Void = { _ in }) -> Sampling {
    var sampling = Sampling()
    change(&sampling)
    return sampling
  }

  private func answer(
    _ generator: inout Generator, _ prompt: [Int] = [72, 105], limit: Int = 40,
    with sampling: Sampling, stops: [String] = []
  ) throws -> (answer: Generator.Answer, pieces: [String]) {
    var pieces: [String] = []
    let answer = try generator.answer(
      to: prompt, limit: limit, sampling: sampling, stops: stops
    ) {
      pieces.append($0)
      return true
    }
    return (answer, pieces)
  }

  @Test func greedyTakesTheLikeliestTokenEachTime() throws {
    try inTemporaryFolder { folder in
      var generator = try generator(in: folder)
      let (ours, pieces) = try answer(&generator, with: sampling())
      #expect(ours.end == .tokenLimit && ours.tokens.count == 40)
      var session = try Session(
        LoadedModel(path: folder).decoder, capacity: 42, on: Compute(threads: 1, precision: .f32))
      var logits = try session.append([72, 105])
      for token in ours.tokens {
        #expect(token == logits.indices.max { logits[$0] < logits[$1] })
        logits = try session.append([token])
      }
      #expect(pieces.joined() == String(decoding: ours.tokens.map { UInt8($0) }, as: UTF8.self))
      #expect(!pieces.contains(""))
    }
  }

  @Test func theSameSeedGivesTheSameTextAndAnotherSeedAnother() throws {
    try inTemporaryFolder { folder in
      var generator = try generator(in: folder)
      let warm = sampling { $0.temperature = 1 }
      let first = try answer(&generator, with: warm)
      _ = try answer(&generator, [1, 2, 3], with: warm)
      #expect(try answer(&generator, with: warm).answer == first.answer)
      let other = sampling { ($0.temperature, $0.seed) = (1, 1) }
      #expect(try answer(&generator, with: other).answer != first.answer)
    }
  }

  @Test func onlyTheLikeliestTokenLeavesGreedyText() throws {
    try inTemporaryFolder { folder in
      var generator = try generator(in: folder)
      let greedy = try answer(&generator, with: sampling()).answer
      for narrow in [
        sampling { ($0.temperature, $0.topK) = (3, 1) },
        sampling { ($0.temperature, $0.topP) = (3, 1e-6) },
        sampling { ($0.temperature, $0.minP) = (3, 1) },
        sampling { $0.temperature = 1e-6 },
      ] { #expect(try answer(&generator, with: narrow).answer == greedy) }
    }
  }

  @Test func aPromptThatGrowsIsReadOnFromWhereItWas() throws {
    try inTemporaryFolder { folder in
      var used = try generator(in: folder)
      let first = try answer(&used, limit: 5, with: sampling()).answer
      for prompt in [[72, 105] + first.tokens + [33], [72, 105], [72], [9, 9, 9]] {
        var fresh = try generator(in: folder)
        let (a, b) = (
          try answer(&used, prompt, with: sampling()), try answer(&fresh, prompt, with: sampling())
        )
        #expect(a.answer == b.answer && a.pieces.joined() == b.pieces.joined(), "\(prompt)")
      }
    }
  }

  @Test func stopStringsEndTheTextAndAreNotShown() throws {
    try inTemporaryFolder { folder in
      var generator = try generator(in: folder)
      let warm = sampling { ($0.temperature, $0.topK) = (1, 20) }
      let text = try answer(&generator, with: warm).pieces.joined()
      let scalars = Array(text.unicodeScalars)
      for at in 3..<min(12, scalars.count - 2) {
        var stop = String.UnicodeScalarView()
        stop.append(contentsOf: scalars[at..<at + 2])
        let word = String(stop)
        guard word.unicodeScalars.allSatisfy({ $0.isASCII && $0 != "\r" && $0 != "\n" }),
          let found = text.firstRange(of: word)
        else { continue }
        let (ours, pieces) = try answer(&generator, with: warm, stops: ["\u{1}\u{1}\u{1}", word])
        #expect(ours.end == .stopString)
        #expect(pieces.joined() == text[..<found.lowerBound], "\(word.debugDescription)")
      }
    }
  }

  @Test func anEndTokenEndsTheAnswerAndIsNotPartOfIt() throws {
    try inTemporaryFolder { folder in
      var plain = try generator(in: folder + "/plain")
      let tokens = try answer(&plain, with: sampling()).answer.tokens
      let end = tokens[6]
      let before = Array(tokens.prefix { $0 != end })
      for (index, field) in [JSON(end), JSON.array([1000, JSON(end)])].enumerated() {
        var generator = try generator(in: folder + "/\(index)", config: ["eos_token_id": field])
        let ours = try answer(&generator, with: sampling()).answer
        #expect(ours.tokens == before && ours.end == .endOfText)
      }
    }
  }

  @Test func whoeverReadsMayEndTheAnswer() throws {
    try inTemporaryFolder { folder in
      var generator = try generator(in: folder)
      var pieces = 0
      let ours = try generator.answer(to: [72], limit: 40, sampling: sampling()) { _ in
        pieces += 1
        return pieces < 3
      }
      #expect(ours.end == .stopped && pieces == 3)
    }
  }

  @Test func nonsenseIsRefused() throws {
    try inTemporaryFolder { folder in
      var generator = try generator(in: folder, capacity: 6)
      #expect(throws: ModelError.self) { try answer(&generator, [], with: sampling()) }
      #expect(throws: ModelError.self) { try answer(&generator, [256], with: sampling()) }
      #expect(throws: ModelError.self) {
        try answer(&generator, [1, 2, 3, 4, 5, 6, 7], with: sampling())
      }
      for change: (inout Sampling) -> Void in [
        { $0.temperature = -1 }, { $0.temperature = .nan }, { $0.topK = 0 }, { $0.topP = 0 },
        { $0.topP = 1.5 }, { $0.minP = -0.1 }, { $0.repetitionPenalty = 0 },
        { $0.repetitionPenalty = .infinity },
      ] { #expect(throws: ModelError.self) { try answer(&generator, with: sampling(change)) } }
      #expect(try answer(&generator, limit: 4, with: sampling()).answer.tokens.count == 4)
      #expect(try answer(&generator, limit: 0, with: sampling()).answer.tokens.isEmpty)
    }
  }
}
