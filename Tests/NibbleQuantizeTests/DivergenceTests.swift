import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleText
import Testing
import TinyModel

@testable import NibbleQuantize
@testable import NibbleTensor

@Suite struct DivergenceTests {
  /// Windows of (tokens, sum of KL, sum of the loss change).
  private static let windows = [
    (255, 10.2, 3.1), (255, 8.7, -0.4), (255, 14.9, 5.0), (255, 6.6, 1.7), (90, 9.5, 4.4),
  ].map { Bootstrap.Window(tokens: $0.0, first: $0.1, second: $0.2) }

  /// The numbers are those of Tests/Golden/bootstrap.py, made with numpy 2.4.6.
  @Test func intervalsAgreeWithNumpy() throws {
    let (kl, change) = try #require(Bootstrap.intervals(Self.windows))
    // Sums and interpolation round differently.
    #expect(abs(kl.lower - 0.032) < 1e-12 && abs(kl.upper - 0.06679487179487179) < 1e-12)
    #expect(abs(change.lower - 0.004411897191308955) < 1e-12)
    #expect(abs(change.upper - 0.02519337606837606) < 1e-12)
  }

  /// The numbers are those of Tests/Golden/bootstrap.py, made with numpy 2.4.6.
  @Test func percentilesAgreeWithNumpy() {
    let sorted = Percentiles<Float>([3, 0.5, 0.25, 9, 1, 2, 0.125])
    for (share, value) in [(0, 0.125), (0.5, 1), (0.9, 5.4), (0.99, 8.64), (1, 9)] {
      #expect(abs(sorted[share] - value) < 1e-12, "\(share)")
    }
    #expect(Percentiles<Float>([7])[0.9] == 7)
    #expect(Percentiles<Float>([1, .infinity])[1] == .infinity)
    #expect(Percentiles<Float>([.nan, 1, 2])[0] == 1)
  }

  @Test func oneWindowHasNoIntervalAndEqualWindowsAnEmptyOne() throws {
    #expect(Bootstrap.intervals([]) == nil && Bootstrap.intervals([Self.windows[0]]) == nil)
    let equal = try #require(
      Bootstrap.intervals([Bootstrap.Window](repeating: Self.windows[0], count: 3)))
    #expect(abs(equal.first.lower - 0.04) < 1e-15 && abs(equal.first.upper - 0.04) < 1e-15)
  }

  private static func row(_ window: Int, _ at: Int) -> TokenComparison {
    TokenComparison(
      loss: 1 + Double((at * 7 + window) % 13), baseLoss: 1.5 + Double(at % 5),
      divergence: Double((at * 31 + window) % 97) / 64, agrees: at % 3 == 0,
      top5: Double(at % 6) / 5)
  }

  private static func sums(_ rows: [TokenComparison]) -> Bootstrap.Window {
    var sums = Bootstrap.Window(tokens: rows.count)
    for row in rows {
      sums.first += row.divergence
      sums.second += row.loss - row.baseLoss
    }
    return sums
  }

  @Test func theDetailsAreThoseOfTheirDefinitions() throws {
    let rows = [100, 600, 1].enumerated().map { window, count in
      (0..<count).map { Self.row(window, $0) }
    }
    let kinds = TextKinds(
      ["code", "none", "prose"],
      of: [Int](repeating: 0, count: 150) + [Int](repeating: 2, count: 554),
      in: [0..<101, 101..<702, 702..<704], beginning: 0)
    var meter = LossMeter(kinds: kinds)
    for (window, rows) in rows.enumerated() {
      meter.add(Array(rows[..<(rows.count / 2)]), window: window, from: 0)
      meter.add(Array(rows[(rows.count / 2)...]), window: window, from: rows.count / 2)
    }
    let comparison = try #require(meter.comparison)
    let found = try #require(comparison.divergence)
    let all: [TokenComparison] = rows.flatMap { $0 }
    func mean(_ values: some Collection<Double>) -> Double {
      values.reduce(0, +) / Double(values.count)
    }
    let sorted = all.map(\.divergence).sorted()
    #expect(found.median == sorted[350] && found.maximum == sorted[700] && found.windows == 3)
    #expect(found.p90 == sorted[630] && found.p99 == sorted[693])
    #expect(abs(comparison.kl - mean(sorted)) < 1e-12)
    #expect(abs(found.top5 - mean(all.map(\.top5))) < 1e-12)
    let changes = all.map { exp(-$0.loss) - exp(-$0.baseLoss) }
    #expect(abs(found.probabilityChange - mean(changes)) < 1e-12)
    #expect(abs(found.probabilityChangeRMS - sqrt(mean(changes.map { $0 * $0 }))) < 1e-12)
    #expect(abs(found.lossChange - log(meter.perplexity / comparison.basePerplexity)) < 1e-12)
    let (kl, change) = try #require(Bootstrap.intervals(rows.map(Self.sums)))
    #expect(found.interval == kl && found.lossChangeInterval == change)
    #expect(kl.lower <= comparison.kl && comparison.kl <= kl.upper)
    #expect(found.byPosition.map(\.name) == ["0-63", "64-511", "512+"])
    #expect(found.byPosition.map(\.tokens) == [129, 36 + 448, 88])
    #expect(
      abs(found.byPosition[2].kl - mean(rows[1][512...].map(\.divergence))) < 1e-12)
    let code = rows[0] + rows[1][..<48]
    // The second window's 49 first tokens are code, of which the first is not predicted.
    #expect(found.byKind.map(\.name) == ["code", "prose"])
    #expect(found.byKind.map(\.tokens) == [148, 553])
    #expect(
      abs(found.byKind[0].kl - mean(code.map(\.divergence))) < 1e-12)
    #expect(found.byKind[0].top1 == Double(code.count { $0.agrees }) / 148)
  }

  /// The tokens of each kind spell its text.
  @Test(arguments: [0, 1])
  func theKindsOfTheBuiltinTextAreItsParts(_ beginning: Int) throws {
    let tokenizer = try Tokenizer(tokenizerJSON: ByteTokenizer.json, config: nil)
    let tokens = tokenizer.encode(BuiltinText.heldOut)
    let half = tokens.count / 2
    let kinds = BuiltinText.heldOutKinds(
      of: [0..<half, half..<tokens.count], beginning: beginning, with: tokenizer)
    #expect(kinds.names == ["English", "Chinese", "code", "dialogue"])
    #expect(kinds.windows.map(\.count) == [half + beginning, tokens.count - half + beginning])
    let all = kinds.windows.flatMap { $0.dropFirst(beginning) }
    for (kind, part) in BuiltinText.heldOutParts.enumerated() {
      let bytes = zip(all, tokens).filter { $0.0 == kind }.map { UInt8($0.1) }
      #expect(
        String(decoding: bytes, as: UTF8.self) == (kind == 0 ? part.text : "\n" + part.text))
    }
  }

  @Test func aVerdictOfAnEarlierVersionIsRead() throws {
    let text = #"{"kl":0.25,"top1":0.5,"perplexity":3,"sourcePerplexity":2,"tokens":7}"#
    let verdict = try JSONDecoder().decode(Verdict.self, from: Data(text.utf8))
    #expect(verdict.kl == 0.25 && verdict.tokens == 7 && verdict.divergence == nil)
    #expect(verdict.json(bound: 1)["kl"] == 0.25 && verdict.json(bound: 1)["divergence"] == nil)
  }

  @Test func aVerdictWithItsDetailsIsReadAsWritten() throws {
    var meter = LossMeter()
    for window in 0..<2 {
      let row = TokenComparison(
        loss: 2 + Double(window), baseLoss: 1, divergence: 0.125, agrees: true, top5: 0.8)
      meter.add([row, row], window: window, from: 0)
    }
    let verdict = try #require(Verdict(meter))
    let read = try JSONDecoder().decode(Verdict.self, from: JSONEncoder().encode(verdict))
    #expect(read == verdict && verdict.divergence != nil)
    let json = try #require(verdict.json(bound: 1)["divergence"])
    #expect(json["kl_interval"] == [0.125, 0.125] && json["ln_perplexity_ratio"] == 1.5)
  }

  /// Reading a window in two parts changes the last bits, bfloat16 a good deal more.
  @Test func theNoiseFloorIsThatOfTheArithmetic() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder, config: [:])
      let decoder = try LoadedModel(path: folder).decoder
      var windows = EvaluationWindows()
      windows.length = 33
      let tokens = someTokens(33 * 3, below: 128)
      let compute = Compute(threads: 2, precision: .f32)
      func floor(_ precision: Precision) throws -> Evaluation.Comparison {
        try Evaluation.noiseFloor(
          of: decoder, tokens: tokens, windows: windows, on: compute,
          changed: Compute(threads: 1, precision: precision)
        ) { _, _ in }
      }
      let (same, other) = (try floor(.f32), try floor(.bf16))
      // Differences of 1e-6 in the logits, squared.
      #expect(same.kl < 1e-9 && same.top1 == 1)
      #expect(other.kl > same.kl && other.kl < 0.01)
    }
  }
}
