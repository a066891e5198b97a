import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct FormatStudyTests {
  private let compute = Compute(threads: 1, precision: .f32)

  /// Uniform values suit integers, values of very different magnitude exponents.
  @Test func theDistributionDecides() throws {
    try inTemporaryFolder { folder in
      var random = SplitMix(state: 3)
      try TinyModel().write(in: folder, config: [:]) { name, values in
        if name.contains("up_proj") {
          for i in values.indices { values[i] = Float.random(in: -1...1, using: &random) }
        } else if name.contains("gate_proj") {
          for i in values.indices {
            let x = Float.random(in: -1...1, using: &random)
            values[i] = x * x * x * x * x * x * x
          }
        }
      }
      let study = try FormatStudy(of: Checkpoint(path: folder), on: compute)
      let weights = study.tensors
      #expect(weights.allSatisfy { $0.kind == .weight })
      #expect(weights.count == 7 * TinyModel().blocks)
      for tensor in weights where tensor.path.contains("up_proj") {
        #expect(tensor.ranked(NumberFormat.eightBits).first == .integer(bits: 8))
        #expect(tensor.ranked(NumberFormat.fourBits).first == .integer(bits: 4))
        // A step of 2 / 255 of values that are uniform on -1...1: 20 log10(255).
        #expect(abs((tensor.signalToNoise[.integer(bits: 8)] ?? 0) - 48.1) < 1)
      }
      for tensor in weights where tensor.path.contains("gate_proj") {
        #expect(tensor.ranked(NumberFormat.eightBits).first != .integer(bits: 8))
      }
      let wins = study.wins(.weight, NumberFormat.eightBits)
      #expect(wins.values.reduce(0, +) == weights.count)
      #expect(study.json["tensors"]?.array?.count == weights.count)
    }
  }

  @Test func inputsNeedStatisticsOfTheSameModel() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/a", config: [:])
      let checkpoint = try Checkpoint(path: folder + "/a")
      let windows = (0..<3).map { someTokens(20, below: 128, seed: UInt64($0)) }
      _ = try CalibrateRun(checkpoint, windows: windows, on: compute).run(
        to: folder + "/statistics", progress: { _, _ in })
      let statistics = try StatisticsFile(path: folder + "/statistics")
      let study = try FormatStudy(of: checkpoint, statistics: statistics, on: compute)
      #expect(study.tensors.count { $0.kind == .input } == 4 * TinyModel().blocks)
      #expect(study.tensors.allSatisfy { $0.signalToNoise.values.allSatisfy { $0 > 0 } })
      var wider = TinyModel()
      wider.hidden = 128
      try wider.write(in: folder + "/b", config: [:])
      #expect(throws: QuantizeError.self) {
        try FormatStudy(
          of: Checkpoint(path: folder + "/b"), statistics: statistics, on: compute)
      }
    }
  }
}
