import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import Testing
import TinyModel

@Suite struct SameBytesTests {
  @Test func aTornLineOfTheJournalCostsOnlyItsOwnUnit() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      let setting = TinyRun()
      try setting.run(source, to: folder + "/whole")
      let output = folder + "/out"
      try setting.runPart(source, to: output, units: 2)
      let journal = output + ".nibble-partial/journal.jsonl"
      let text = try Data(contentsOf: URL(fileURLWithPath: journal))
      try text.dropLast(20).write(to: URL(fileURLWithPath: journal))
      try setting.runPart(source, to: output, units: 3)
      let report = try setting.run(source, to: output)
      #expect(report.resumedUnits == 3, "what followed the torn line was kept")
      #expect(try files(output) == files(folder + "/whole"))
    }
  }

  @Test func bytesAfterTheEndOfAFinishedShardAreNotPublished() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      var setting = TinyRun()
      setting.shardSize = 30_000
      try setting.run(source, to: folder + "/whole")
      try setting.runPart(source, to: output, units: 3)
      let shard = output + ".nibble-partial/model-00001-of-00004.safetensors"
      var bytes = try Data(contentsOf: URL(fileURLWithPath: shard))
      bytes.append(contentsOf: [UInt8](repeating: 0x41, count: 100))
      try bytes.write(to: URL(fileURLWithPath: shard))
      try setting.run(source, to: output)
      #expect(try files(output) == files(folder + "/whole"))
    }
  }

  @Test(arguments: Recipes.names)
  func oneThreadAndTwoGiveTheSameBytes(_ name: String) throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      var setting = TinyRun(try Recipes.named(name))
      try setting.run(source, to: folder + "/one")
      setting.threads = 2
      try setting.run(source, to: folder + "/two")
      #expect(try files(folder + "/one") == files(folder + "/two"))
    }
  }

  @Test(arguments: ["w8a8", "w4a16 asymmetric", "head"], [5 << 30, 30_000])
  func aRunStoppedAfterAnyUnitEndsWithTheSameBytes(_ name: String, _ shardSize: Int) throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      var setting = TinyRun(try Recipes.named(name))
      setting.shardSize = shardSize
      try setting.run(source, to: folder + "/whole")
      let whole = try files(folder + "/whole")
      let units = try setting.plan(source).units.count
      #expect(units == TinyModel().blocks + 1)
      for stop in 1..<units {
        let output = folder + "/out\(stop)"
        try setting.runPart(source, to: output, units: stop)
        setting.threads = 1 + stop % 2
        let report = try setting.run(source, to: output)
        #expect(report.resumedUnits == stop)
        #expect(try files(output) == whole, "stopped after \(stop)")
      }
      let output = folder + "/often"
      for stop in 1..<units { try setting.runPart(source, to: output, units: stop) }
      try setting.run(source, to: output)
      #expect(try files(output) == whole, "stopped after every unit")
    }
  }

  @Test func withoutTheStatesARunStartsOverWithTheSameBytes() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      let setting = TinyRun()
      try setting.run(source, to: folder + "/whole")
      try setting.runPart(source, to: output, units: 2)
      let partial = output + ".nibble-partial"
      for name in try files(partial).keys where name.hasPrefix("states-") {
        try FileManager.default.removeItem(atPath: partial + "/" + name)
      }
      #expect(try setting.run(source, to: output).resumedUnits == 0)
      #expect(try files(output) == files(folder + "/whole"))
    }
  }

  @Test func anInterruptKeepsWhatIsFinishedHoweverSeldomStatesAreKept() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      var setting = TinyRun()
      setting.spillInterval = .seconds(3600)
      try setting.run(source, to: folder + "/whole")
      try setting.runPart(source, to: output, units: 2)
      #expect(try setting.run(source, to: output).resumedUnits == 2)
      #expect(try files(output) == files(folder + "/whole"))
    }
  }

  @Test func whatAKillOrABadDiskLeavesIsDoneAgain() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      var setting = TinyRun()
      setting.shardSize = 30_000
      try setting.run(source, to: folder + "/whole")
      let whole = try files(folder + "/whole")
      let partial = folder + "/part.nibble-partial"
      try setting.runPart(source, to: folder + "/part", units: 3)
      let left = try files(partial)
      let shards = left.keys.filter { $0.hasSuffix(".safetensors") }.sorted()
      let states = left.keys.filter { $0.hasPrefix("states-") }.sorted()
      try #require(shards.count >= 3 && !states.isEmpty, "\(left.keys)")

      var random = SplitMix(state: 20)
      for trial in 0..<60 {
        var damaged = left
        let kinds = (shards + states + ["journal.jsonl"]).shuffled(using: &random)
        let target = kinds[0]
        var bytes = try #require(damaged[target])
        switch trial % 4 {
        case 0: bytes = bytes.prefix(Int.random(in: 0..<bytes.count, using: &random))
        case 1:
          bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
            1 << UInt8.random(in: 0..<8, using: &random)
        case 2 where !target.hasSuffix(".safetensors"):
          bytes.append(contentsOf: [UInt8](repeating: 0x41, count: 100))
        default: bytes = Data()
        }
        damaged[target] = bytes
        if trial % 5 == 4 { damaged[kinds[1]] = nil }
        let output = folder + "/trial"
        let what = "trial \(trial): \(target), \(kinds[1])"
        try put(damaged, into: output + ".nibble-partial")
        do {
          try setting.run(source, to: output)
          #expect(try files(output) == whole, "\(what)")
        } catch let error as QuantizeError {
          // Only a journal whose first line is not one may be refused, and the reader is told what
          // to do.
          #expect(target == "journal.jsonl" || kinds[1] == "journal.jsonl", "\(what): \(error)")
          #expect("\(error)".contains("Remove that folder"), "\(what): \(error)")
          #expect(!exists(output), "\(what)")
        }
        for path in [output, output + ".nibble-partial"] where exists(path) {
          try FileManager.default.removeItem(atPath: path)
        }
      }
    }
  }

  @Test(arguments: ["w8a8", "w4a16"])
  func shardsHoldTheSameTensorsAsOneFile(_ name: String) throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      var setting = TinyRun(try Recipes.named(name))
      let one = try setting.run(source, to: folder + "/one")
      setting.shardSize = 20_000
      let several = try setting.run(source, to: folder + "/several")
      let (left, right) = (
        try SafetensorsCheckpoint(folder: folder + "/one"),
        try SafetensorsCheckpoint(folder: folder + "/several")
      )
      #expect(left.files.count == 1 && right.files.count > 2)
      #expect(Set(left.names) == Set(right.names) && left.names.count == right.names.count)
      for name in left.names {
        #expect(left.bytes(of: name)?.array == right.bytes(of: name)?.array, "\(name)")
      }
      #expect(one.verdict == several.verdict && one.layers == several.layers)
      let index = try Checkpoint.json(folder + "/several/model.safetensors.index.json")
      #expect(index["weight_map"]?.object?.count == right.names.count)
    }
  }

  private func put(_ files: [String: Data], into folder: String) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (name, data) in files {
      try data.write(to: URL(fileURLWithPath: folder + "/" + name))
    }
  }
}
