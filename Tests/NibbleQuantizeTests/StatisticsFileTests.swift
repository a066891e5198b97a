import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct StatisticsFileTests {
  private func windows(_ range: Range<Int>) -> [[Int]] {
    range.map { someTokens(11 + $0 % 5, below: 128, seed: 500 + UInt64($0)) }
  }

  private func calibrate(
    _ checkpoint: Checkpoint, _ windows: [[Int]], to path: String, threads: Int = 1
  ) throws -> [CalibrateRun.Audit] {
    try CalibrateRun(
      checkpoint, windows: windows, on: Compute(threads: threads, precision: .f32)
    ).run(to: path) { _, _ in }
  }

  private func bytes(_ path: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: path))
  }

  @Test func partsMergeToTheBytesOfTheWhole() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/model", config: [:])
      let checkpoint = try Checkpoint(path: folder + "/model")
      // More tokens than a sample holds.
      let all = windows(0..<60)
      #expect(all.reduce(0) { $0 + $1.count } > ActivationRecord.sampled)
      _ = try calibrate(checkpoint, all, to: folder + "/whole")
      let whole = try bytes(folder + "/whole")
      _ = try calibrate(checkpoint, all.reversed(), to: folder + "/reversed", threads: 3)
      #expect(try bytes(folder + "/reversed") == whole)
      for (name, part) in [("a", 0..<7), ("b", 7..<40), ("c", 40..<60)] {
        _ = try calibrate(checkpoint, Array(all[part]), to: folder + "/" + name)
      }
      func file(_ name: String) throws -> StatisticsFile {
        try StatisticsFile(path: folder + "/" + name)
      }
      for order in [["a", "b", "c"], ["c", "a", "b"]] {
        let merged = folder + "/merged-" + order.joined()
        try CalibrateRun.merge(try order.map(file), of: checkpoint, to: merged)
        #expect(try bytes(merged) == whole)
        // What is there stays.
        #expect(throws: QuantizeError.folder(.fileExists(merged))) {
          try CalibrateRun.merge([file("a")], of: checkpoint, to: merged)
        }
      }
      // Merging what was merged.
      try CalibrateRun.merge([file("a"), file("b")], of: checkpoint, to: folder + "/ab")
      try CalibrateRun.merge([file("c"), file("ab")], of: checkpoint, to: folder + "/cab")
      #expect(try bytes(folder + "/cab") == whole)
      #expect(throws: QuantizeError.self) {
        try CalibrateRun.merge([file("a"), file("ab")], of: checkpoint, to: folder + "/twice")
      }
      #expect(!exists(folder + "/twice"))
    }
  }

  @Test(arguments: ["w8a8-smooth", "w8a8-o3", "fp8-static"])
  func keptStatisticsGiveTheModelThatTheTextGives(_ name: String) throws {
    try inTemporaryFolder { folder in
      let source = folder + "/model"
      try TinyModel().write(in: source, config: [:])
      let checkpoint = try Checkpoint(path: source)
      var run = TinyRun(try CalibratedRunTests.fitted(name))
      run.recipe.cache = KeyValueScheme(.int8)
      run.windows.calibration = windows(0..<6)
      try run.run(source, to: folder + "/text")
      _ = try calibrate(checkpoint, windows(0..<6), to: folder + "/statistics")
      run.windows.calibration = []
      let kept = QuantizeRun(
        checkpoint, try run.plan(source), windows: run.windows,
        statistics: try StatisticsFile(path: folder + "/statistics"),
        files: try CompanionFiles(of: checkpoint), on: Compute(threads: 2, precision: .f32))
      _ = try kept.run(to: folder + "/kept", progress: { _ in })
      let (text, other) = (try files(folder + "/text"), try files(folder + "/kept"))
      #expect(text["model.safetensors"] == other["model.safetensors"])
    }
  }

  @Test func theAuditCountsWhatIsThere() throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      model.blocks = 2
      try model.write(in: folder + "/model", config: [:]) { name, values in
        guard name == "model.layers.1.input_layernorm.weight" else { return }
        values[3] = 0
        values[9] = 0
        values[20] *= 500
        values[30] *= 8
      }
      let checkpoint = try Checkpoint(path: folder + "/model")
      let audits = try calibrate(checkpoint, windows(0..<10), to: folder + "/out")
      #expect(audits.count == 8)
      let audit = try #require(audits.first { $0.block == 1 && $0.site == .attention })
      #expect(audit.deadChannels == 2 && audit.outlierChannels == 1 && audit.peak > 100)
      #expect(try #require(audit.stillGrowing) <= 1)
      #expect(audits.count { $0.deadChannels > 0 } == 1)
      #expect(try calibrate(checkpoint, windows(0..<1), to: folder + "/one")[0].stillGrowing != 0)
      // Its inputs are the loudest, and those that stand out most.
      let file = try StatisticsFile(path: folder + "/out")
      for loudness in [InputLoudness.peak, .spread] {
        #expect(
          try file.loudestLinears(2, by: loudness, of: checkpoint) == [
            "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj",
          ])
      }
      #expect(try file.loudestLinears(100, by: .peak, of: checkpoint).count == 14)
    }
  }

  @Test func otherModelsAndRepeatedWindowsAreRefused() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/model", config: [:])
      let checkpoint = try Checkpoint(path: folder + "/model")
      let window = windows(0..<1)
      #expect(throws: QuantizeError.self) {
        try calibrate(checkpoint, window + window, to: folder + "/twice")
      }
      _ = try calibrate(checkpoint, window, to: folder + "/one")
      // The same shapes and another rotation.
      try TinyModel().write(in: folder + "/other", config: ["rope_theta": 500_000.0])
      let file = try StatisticsFile(path: folder + "/one")
      #expect(throws: QuantizeError.self) {
        try CalibrateRun.merge([file], of: Checkpoint(path: folder + "/other"), to: folder + "/out")
      }
    }
  }

  @Test func damagedFilesAreRefusedOrRead() throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      (model.blocks, model.hidden, model.intermediate, model.headSize) = (1, 8, 8, 2)
      try model.write(in: folder + "/model", config: [:])
      let checkpoint = try Checkpoint(path: folder + "/model")
      _ = try calibrate(checkpoint, windows(0..<3), to: folder + "/good")
      let good = try bytes(folder + "/good")
      var random = SplitMix(state: 9)
      let header = 8 + Int(good[0]) + Int(good[1]) << 8
      for trial in 0..<300 {
        var damaged = good
        switch trial % 3 {
        case 0:
          damaged[Int.random(in: 0..<header, using: &random)] = UInt8.random(
            in: 32..<127, using: &random)
        case 1:
          for _ in 0..<8 {
            damaged[Int.random(in: header..<good.count, using: &random)] = UInt8.random(
              in: 0...255, using: &random)
          }
        default: damaged = damaged.prefix(Int.random(in: 0..<good.count, using: &random))
        }
        let path = folder + "/bad"
        try damaged.write(to: URL(fileURLWithPath: path))
        do {
          let file = try StatisticsFile(path: path)
          try CalibrateRun.merge([file], of: checkpoint, to: folder + "/merged")
          for site in Site.llama { _ = try file.record(0, site) }
        } catch is QuantizeError {}
      }
    }
  }
}
