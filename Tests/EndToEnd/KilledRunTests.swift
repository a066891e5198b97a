import Foundation
import NibbleFormats
import Testing
import TinyModel

@Suite(.serialized) struct KilledRunTests {
  @Test func aRunKilledAtTenRandomMomentsEndsWithTheSameBytes() throws {
    try inTemporaryFolder { folder in
      let (source, whole, output) = (folder + "/source", folder + "/whole", folder + "/out")
      try SmallModel.write(source, blocks: 24)
      let more = ["--shard-size", "300KB"]
      let clock = ContinuousClock()
      let time = try clock.measure {
        let outcome = try SmallModel.quantize(source, whole, recipe: SmallModel.long + more).wait()
        #expect(outcome.status == 0, "\(outcome)")
      }
      let expected = try files(whole)
      // NIBBLE_TEST_SEED=N repeats a run that failed.
      let seed =
        ProcessInfo.processInfo.environment["NIBBLE_TEST_SEED"].flatMap { UInt64($0) }
        ?? UInt64.random(in: 0...UInt64.max)
      print("killed at moments of seed \(seed)")
      var random = Seeded(state: seed)
      var kills = 0
      var hits: [Int] = []
      while kills < 10 {
        let call = try SmallModel.quantize(
          source, output, "--threads", "\(1 + kills % 2)", recipe: SmallModel.long + more)
        usleep(UInt32(Double.random(in: 0...1, using: &random) * (time / .microseconds(1))))
        call.send(SIGKILL)
        let outcome = try call.wait()
        if outcome.signal == SIGKILL {
          kills += 1
          hits.append(outcome.errors.split(separator: "\n").count { $0.hasPrefix("[") })
          if exists(output) { #expect(try files(output) == expected, "seed \(seed)") }
        } else {
          #expect(outcome.status == 0, "seed \(seed): \(outcome)")
        }
        if exists(output) {
          #expect(try files(output) == expected, "seed \(seed)")
          try FileManager.default.removeItem(atPath: output)
        }
      }
      print("units said before each kill: \(hits)")
      let outcome = try SmallModel.quantize(source, output, recipe: SmallModel.long + more).wait()
      #expect(outcome.status == 0, "seed \(seed): \(outcome)")
      #expect(try files(output) == expected, "seed \(seed)")
      #expect(!exists(output + ".nibble-partial"))
    }
  }

  @Test(arguments: [SIGINT, SIGTERM])
  func anInterruptIs75AndTheNextRunContinues(_ signal: Int32) throws {
    try inTemporaryFolder { folder in
      let (source, whole, output) = (folder + "/source", folder + "/whole", folder + "/out")
      try SmallModel.write(source, blocks: 24)
      #expect(try SmallModel.quantize(source, whole, recipe: SmallModel.long).wait().status == 0)
      let call = try SmallModel.quantize(source, output, recipe: SmallModel.long)
      while call.isRunning, !call.errors.contains("[2/25]") { usleep(500) }
      call.send(signal)
      let outcome = try call.wait()
      #expect(outcome.status == 75 && outcome.signal == nil, "\(outcome)")
      #expect(outcome.errors.contains(output + ".nibble-partial"))
      #expect(outcome.errors.contains("continue"))
      #expect(!exists(output))
      let again = try SmallModel.quantize(source, output, recipe: SmallModel.long).wait()
      #expect(again.status == 0 && again.errors.contains("finished earlier"), "\(again)")
      #expect(try files(output) == files(whole))
    }
  }

  /// What keeps nothing when it is interrupted says so, and leaves nothing.
  @Test(arguments: ["calibrate", "sensitivity"])
  func anInterruptThatKeepsNothingSaysSo(_ command: String) throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source, blocks: 24)
      let more =
        command == "calibrate"
        ? ["-o", folder + "/out", "--samples", "8", "--sample-length", "256"]
        : ["--recipe", "w8a8", "--sensitivity-windows", "8", "--sensitivity-length", "256"]
      let call = try Call([command, source] + more)
      while call.isRunning, !call.errors.contains("[1/") { usleep(500) }
      call.send(SIGINT)
      let outcome = try call.wait()
      #expect(outcome.status == 75 && outcome.signal == nil, "\(outcome)")
      #expect(outcome.errors.contains("keeps nothing"), "\(outcome)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["source"])
    }
  }

  @Test func aSecondRunAtTheSameTimeIs73() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source, blocks: 24)
      let first = try SmallModel.quantize(source, output, recipe: SmallModel.long)
      while first.isRunning, !first.errors.contains("[1/25]") { usleep(500) }
      first.send(SIGSTOP)
      let second = try SmallModel.quantize(source, output, recipe: SmallModel.long).wait()
      first.send(SIGCONT)
      #expect(second.status == 73 && second.errors.contains("another run"), "\(second)")
      #expect(try first.wait().status == 0)
    }
  }

  @Test func anotherRecipeDoesNotContinueARun() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source, blocks: 24)
      let call = try SmallModel.quantize(source, output, recipe: SmallModel.long)
      while call.isRunning, !call.errors.contains("[1/25]") { usleep(500) }
      call.send(SIGKILL)
      _ = try call.wait()
      let other = try nibble(
        "quantize", source, "-o", output, "--recipe", "w8a16", "--verdict-windows", "2",
        "--verdict-window", "32")
      #expect(other.status == 73 && other.errors.contains("Remove that folder"), "\(other)")
    }
  }
}

/// SplitMix64.
struct Seeded: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
