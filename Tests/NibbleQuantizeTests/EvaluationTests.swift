import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct EvaluationTests {
  private func evaluate(
    _ model: Decoder, against base: Decoder? = nil, _ tokens: [Int], length: Int = 8,
    count: Int? = nil, skip: Int = 0, _ definition: PerplexityDefinition = .windows,
    beginning: Int? = nil
  ) throws -> Evaluation {
    var windows = EvaluationWindows()
    windows.length = length
    windows.count = count
    windows.skip = skip
    windows.definition = definition
    windows.beginningOfText = beginning
    return try Evaluation(
      model, against: base, tokens: tokens, windows: windows,
      on: Compute(threads: 1, precision: .f32)
    ) { _, _, _ in }
  }

  private func decoder(
    in folder: String, seed: UInt64 = 1,
    change: (_ name: String, _ values: inout [Float]) -> Void = { _, _ in }
  ) throws -> Decoder {
    var model = TinyModel()
    model.seed = seed
    model.vocabulary = 37
    try model.write(in: folder + "/\(seed)", config: [:], change: change)
    return try LoadedModel(path: folder + "/\(seed)").decoder
  }

  @Test(arguments: PerplexityDefinition.allCases)
  func aHeadThatSaysNothingHasThePerplexityOfTheVocabulary(
    _ definition: PerplexityDefinition
  ) throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder) { name, values in
        if name == "lm_head.weight" { values = values.map { _ in 0 } }
      }
      let evaluation = try evaluate(decoder, someTokens(33, below: 37), definition)
      #expect(abs(evaluation.perplexity - 37) < 1e-9 * 37)
      #expect(evaluation.comparison == nil)
    }
  }

  @Test func aModelAgainstItselfAgrees() throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder)
      let evaluation = try evaluate(decoder, against: decoder, someTokens(33, below: 37))
      let comparison = try #require(evaluation.comparison)
      #expect(comparison.kl == 0 && comparison.top1 == 1)
      #expect(comparison.basePerplexity == evaluation.perplexity)
      let divergence = try #require(comparison.divergence)
      #expect(divergence.maximum == 0 && divergence.top5 == 1 && divergence.lossChange == 0)
      #expect(divergence.probabilityChange == 0 && divergence.probabilityChangeRMS == 0)
      #expect(divergence.interval == Divergence.Interval(lower: 0, upper: 0))
    }
  }

  @Test func theNumbersAreThoseOfTheirDefinitions() throws {
    try inTemporaryFolder { folder in
      let (ours, theirs) = (try decoder(in: folder), try decoder(in: folder, seed: 2))
      let tokens = someTokens(8 * 5 + 7, below: 37)
      for (definition, scored) in [
        (PerplexityDefinition.windows, 0..<7), (.llamaCpp, 4..<7),
      ] {
        for (count, skip, range) in [(nil, 0, 0..<5), (2, 1, 1..<3), (9, 4, 4..<5)]
          as [(
            Int?, Int, Range<Int>
          )]
        {
          let evaluation = try evaluate(
            ours, against: theirs, tokens, count: count, skip: skip, definition, beginning: 1)
          // By the textbook, in double, window by window, every token after its prefix.
          var (loss, baseLoss, divergence, agreeing, total) = (0.0, 0.0, 0.0, 0, 0)
          var largest = 0.0
          for index in range {
            var window = Array(tokens[index * 8..<index * 8 + 8])
            if definition == .llamaCpp { window[0] = 1 }
            let (q, p) = (try probabilities(ours, window), try probabilities(theirs, window))
            for t in scored {
              loss -= log(q[t][window[t + 1]])
              baseLoss -= log(p[t][window[t + 1]])
              let distance = zip(p[t], q[t]).reduce(0) { $0 + $1.0 * log($1.0 / $1.1) }
              divergence += distance
              largest = max(largest, distance)
              agreeing +=
                p[t].firstIndex(of: p[t].max()!) == q[t].firstIndex(of: q[t].max()!) ? 1 : 0
              total += 1
            }
          }
          let comparison = try #require(evaluation.comparison)
          #expect(evaluation.windows == range.count && evaluation.skipped == skip)
          #expect(evaluation.scoredTokens == total && evaluation.windowLength == 8)
          // Logits are float: about 1e-6 of values near 1.
          #expect(abs(evaluation.perplexity / exp(loss / Double(total)) - 1) < 1e-5)
          #expect(abs(comparison.basePerplexity / exp(baseLoss / Double(total)) - 1) < 1e-5)
          #expect(abs(comparison.kl - divergence / Double(total)) < 1e-5)
          #expect(comparison.top1 == Double(agreeing) / Double(total))
          let detail = try #require(comparison.divergence)
          #expect(abs(detail.maximum - largest) < 1e-4 && detail.windows == range.count)
          #expect(abs(detail.lossChange - (loss - baseLoss) / Double(total)) < 1e-5)
          #expect(detail.byPosition.map(\.tokens) == [total] && detail.byKind.isEmpty)
          #expect((detail.interval == nil) == (range.count == 1))
        }
      }
    }
  }

  @Test func theFirstTokenOfAWindowIsReplacedOnlyForLlamaCpp() throws {
    var windows = EvaluationWindows()
    windows.length = 3
    windows.beginningOfText = 9
    #expect(try windows.cut([1, 2, 3, 4, 5, 6, 7]) == [[1, 2, 3], [4, 5, 6]])
    windows.definition = .llamaCpp
    #expect(try windows.cut([1, 2, 3, 4, 5, 6, 7]) == [[9, 2, 3], [9, 5, 6]])
    windows.beginningOfText = nil
    #expect(try windows.cut([1, 2, 3, 4, 5, 6, 7]) == [[1, 2, 3], [4, 5, 6]])
  }

  /// The same tokens are scored with it and without it.
  @Test func theBeginningOfTextStandsBeforeEachWindow() throws {
    var windows = EvaluationWindows()
    windows.length = 3
    windows.beginning = [9]
    #expect(try windows.cut([1, 2, 3, 4, 5, 6, 7]) == [[9, 1, 2, 3], [9, 4, 5, 6]])
    #expect(windows.scored == 1..<3 && windows.capacity == 4)
    windows.skip = 1
    #expect(try windows.cut([1, 2, 3, 4, 5, 6]) == [[9, 4, 5, 6]])
    windows.skip = 2
    #expect(throws: ModelError.self) { try windows.cut([1, 2, 3, 4, 5, 6]) }
    windows.skip = 1
    windows.definition = .llamaCpp
    #expect(try windows.cut([1, 2, 3, 4, 5, 6]) == [[4, 5, 6]])
  }

  @Test func aWindowWithABeginningIsReadAfterItAndScoredAsWithout() throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder)
      let compute = Compute(threads: 1, precision: .f32)
      let text = someTokens(22, below: 37)
      var windows = EvaluationWindows()
      windows.length = 11
      windows.beginning = [5]
      let with = try Evaluation(decoder, tokens: text, windows: windows, on: compute) { _, _, _ in }
      var losses: [Double] = []
      for window in [[5] + text[..<11], [5] + text[11...]] {
        var session = try Session(decoder, capacity: 12, on: compute)
        let states = try session.states(after: window)
        losses += session.losses(states, 1..<11, targets: Array(window[2...]))
      }
      #expect(with.scoredTokens == 20 && losses.count == 20)
      let expected = exp(losses.reduce(0, +) / 20)
      #expect(abs(with.perplexity / expected - 1) < 1e-9)
      #expect(with.beginning)
      #expect(with.definition.explanation(beginning: true).contains("with BOS before each window"))
    }
  }

  @Test(arguments: [(0, 8, 0), (7, 8, 0), (16, 8, 2), (16, 8, 99), (16, 1, 0), (0, 2, 0)])
  func tooShortATextIsAnErrorWithItsNumbers(_ count: Int, _ length: Int, _ skip: Int) throws {
    var windows = EvaluationWindows()
    windows.length = length
    windows.skip = skip
    do {
      let cut = try windows.cut([Int](repeating: 0, count: count))
      Issue.record("\(cut.count) windows")
    } catch { #expect("\(error)".contains("\(length == 1 ? length : count)"), "\(error)") }
  }

  @Test func aTokenOutsideTheVocabularyIsAnError() throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder)
      for token in [37, -1, Int.max, Int.min] {
        #expect(throws: ModelError.tokenOutsideVocabulary(token, vocabulary: 37)) {
          try evaluate(decoder, [1, 2, token, 3, 4, 5, 6, 7])
        }
      }
    }
  }

  private func probabilities(_ decoder: Decoder, _ window: [Int]) throws -> [[Double]] {
    var session = try Session(
      decoder, capacity: window.count, on: Compute(threads: 1, precision: .f32))
    return try window.map { token in
      let logits = try session.append([token]).map(Double.init)
      let peak = logits.max() ?? 0
      let weights = logits.map { exp($0 - peak) }
      let total = weights.reduce(0, +)
      return weights.map { $0 / total }
    }
  }
}
