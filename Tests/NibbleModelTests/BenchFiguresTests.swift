import NibbleFormats
import NibbleTensor
import Testing

@testable import NibbleModel

@Suite struct BenchFiguresTests {
  private func figures(_ prefill: Double, _ decode: Double, peak: Int? = nil) -> BenchFigures {
    BenchFigures(prefill: prefill, decode: decode, firstToken: prefill / 100, peakBytes: peak)
  }

  @Test func eachFigureHasItsOwnMedian() {
    let median = BenchFigures(
      medianOf: [figures(100, 9, peak: 7), figures(300, 3), figures(200, 5, peak: 9)])
    #expect(median.prefill == 200 && median.decode == 5 && median.firstToken == 2)
    #expect(median.peakBytes == 8 && median.loading == nil)
    #expect(BenchFigures(medianOf: [figures(1, 2), figures(3, 8)]).decode == 5)
  }

  @Test func whatOneProcessSaysAnotherReads() {
    var said = figures(12.5, 3.25, peak: 1 << 40)
    said.work = DecoderWork(
      weightBytes: 123, cacheBytesPerPosition: 4.5, blockOperations: 6, headOperations: 7,
      attentionOperations: 8, arithmetic: .int8)
    #expect(BenchFigures(said.json) == said)
    #expect(BenchFigures(["prefill_tokens_per_second": 1]) == nil)
    // A program that says less, such as llama-bench.
    #expect(
      BenchFigures(["prefill_tokens_per_second": 1, "decode_tokens_per_second": 2])
        == BenchFigures(prefill: 1, decode: 2))
  }

  /// Shares by hand: 100 bytes of weights and, on average over 3 tokens after 10, 12 positions of 2 bytes.
  @Test func sharesAreOfWhatTheMachineCanDo() throws {
    var ours = figures(10, 5)
    ours.work = DecoderWork(
      weightBytes: 100, cacheBytesPerPosition: 2, blockOperations: 50, headOperations: 40,
      attentionOperations: 2, arithmetic: .int8)
    let report = BenchReport(
      settings: BenchSettings(promptTokens: 4, decodeTokens: 3, context: 10), rounds: 1, threads: 2,
      sides: [ours], limits: MachineLimits(readBandwidth: 1240, peak: [.int8: 1300]))
    #expect(report.bytesPerSecond(ours) == 620)
    #expect(report.bandwidthShare(ours) == 0.5)
    // 4 x 50, 1 + 2 + 3 + 4 positions of 2, and one row of logits: 260 a prompt, 65 a token.
    #expect(report.operationsPerSecond(ours) == 650)
    #expect(report.arithmeticShare(ours) == 0.5)
    #expect(report.bandwidthShare(figures(1, 1)) == nil)
  }
}
