import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import Testing
import TinyModel

@Suite struct RunFolderTests {
  @Test func aSlashAfterTheNameOfTheOutputChangesNothing() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      try TinyRun().run(source, to: folder + "/plain")
      try TinyRun().run(source, to: folder + "/slash/")
      #expect(try files(folder + "/plain") == files(folder + "/slash"))
    }
  }

  @Test func anUnfinishedRunOfAnotherRecipeIsRefusedAndKept() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      let setting = TinyRun()
      try setting.run(source, to: folder + "/whole")
      try setting.runPart(source, to: output, units: 2)
      var others: [TinyRun] = [TinyRun(.w8a16), setting, setting, setting]
      others[1].shardSize = 1000
      others[2].windows.heldOut[0][0] ^= 1
      others[3].recipe.quantizesHead = true
      for other in others {
        try expectRefusal(of: output) { try other.run(source, to: output) }
      }
      try setting.run(source, to: output)
      #expect(try files(output) == files(folder + "/whole"))
    }
  }

  @Test func anUnfinishedRunOfAnotherSourceIsRefused() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      var model = TinyModel()
      try model.write(in: source, config: [:])
      let setting = TinyRun()
      try setting.runPart(source, to: output, units: 2)
      // The same shapes, other weights, in the same place.
      model.seed = 2
      try model.write(in: source, config: [:])
      try expectRefusal(of: output) { try setting.run(source, to: output) }
      // The same weights, another config.
      model.seed = 1
      try model.write(in: source, config: ["rope_theta": 500.0])
      try expectRefusal(of: output) { try setting.run(source, to: output) }
    }
  }

  /// The same size and the same date, other weights.
  @Test func aSourceThatWasForgedMeanwhileIsRefused() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      let setting = TinyRun()
      try setting.runPart(source, to: output, units: 2)
      let weights = source + "/model.safetensors"
      let date = try #require(
        try FileManager.default.attributesOfItem(atPath: weights)[.modificationDate] as? Date)
      // In place: a value of a weight of the block that is done already.
      let position = try #require(
        try SafetensorsFile(path: weights).bytes(of: "model.layers.0.mlp.up_proj.weight")?.array)
      var bytes = try Data(contentsOf: URL(fileURLWithPath: weights))
      let at = try #require(bytes.range(of: Data(position))).lowerBound
      bytes[at] ^= 1
      let file = try FileHandle(forWritingTo: URL(fileURLWithPath: weights))
      try file.write(contentsOf: bytes)
      try file.close()
      try FileManager.default.setAttributes([.modificationDate: date], ofItemAtPath: weights)
      try expectRefusal(of: output) { try setting.run(source, to: output) }
    }
  }

  /// A run that was killed after it wrote the report, before the folder got its name.
  @Test func aReportThatWasWrittenAlreadyIsNotListedInItself() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      let setting = TinyRun()
      try setting.run(source, to: folder + "/whole")
      try setting.runPart(source, to: output, units: 2)
      try FileManager.default.copyItem(
        atPath: folder + "/whole/nibble_report.json",
        toPath: output + ".nibble-partial/nibble_report.json")
      try setting.run(source, to: output)
      #expect(try files(output) == files(folder + "/whole"))
    }
  }

  @Test func anUnfinishedRunThatFinishedNothingGivesWay() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:]) { name, values in
        if name == "model.layers.0.mlp.up_proj.weight" { values[3] = .infinity }
      }
      #expect(throws: QuantizeError.self) { try TinyRun().run(source, to: output) }
      #expect(exists(output + ".nibble-partial"))
      try TinyModel().write(in: source, config: [:])
      try TinyRun(.w8a16).run(source, to: output)
      #expect(exists(output + "/nibble_report.json"))
    }
  }

  @Test func aFolderThatIsNotOursIsRefusedAndUntouched() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      let partial = output + ".nibble-partial"
      try FileManager.default.createDirectory(
        atPath: partial, withIntermediateDirectories: true)
      for (name, text) in [("letter.txt", "dear"), ("journal.jsonl", "monday: rain\n")] {
        try Data(text.utf8).write(to: URL(fileURLWithPath: partial + "/" + name))
        let before = try files(partial)
        try expectRefusal(of: output) { try TinyRun().run(source, to: output) }
        #expect(try files(partial) == before)
      }
    }
  }

  @Test func anOutputThatExistsIsRefusedAndAnEmptyFolderIsTaken() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      let setting = TinyRun()
      for name in ["file", "full"] {
        let output = folder + "/" + name
        if name == "full" {
          try FileManager.default.createDirectory(
            atPath: output, withIntermediateDirectories: false)
        }
        let letter = name == "full" ? output + "/letter.txt" : output
        try Data("dear".utf8).write(to: URL(fileURLWithPath: letter))
        #expect(throws: QuantizeError.folder(.outputExists(output))) {
          try setting.run(source, to: output)
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: letter)) == Data("dear".utf8))
        #expect(!exists(output + ".nibble-partial"))
      }
      #expect(throws: QuantizeError.self) { try setting.run(source, to: source) }
      let empty = folder + "/empty"
      try FileManager.default.createDirectory(atPath: empty, withIntermediateDirectories: false)
      try setting.run(source, to: empty)
      #expect(exists(empty + "/model.safetensors") && !exists(empty + ".nibble-partial"))
      #expect(throws: QuantizeError.folder(.outputExists(empty))) {
        try setting.run(source, to: empty)
      }
    }
  }

  @Test func oneOfTwoRunsAtOnceIsToldThatTheOtherWrites() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      let setting = TinyRun()
      var refusals = 0
      try setting.run(source, to: output) { _ in
        do { try setting.run(source, to: output) } catch QuantizeError.folder(.busy) {
          refusals += 1
        } catch { Issue.record("\(error)") }
      }
      #expect(refusals == TinyModel().blocks + 1)
      try setting.run(source, to: folder + "/alone")
      #expect(try files(output) == files(folder + "/alone"))
    }
  }

  @Test func nothingOfTheRunIsLeftBesideTheModel() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/new/deep/out")
      try TinyModel().write(in: source, config: [:])
      try TinyRun().run(source, to: output)
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: output).sorted()
          == ["config.json", "model.safetensors", "nibble_report.json"])
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/new/deep") == ["out"])
    }
  }

  @Test func statesOfFinishedUnitsDoNotPileUp() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      var model = TinyModel()
      model.blocks = 8
      try model.write(in: source, config: [:])
      try TinyRun().run(source, to: output) { _ in
        let names =
          (try? FileManager.default.contentsOfDirectory(
            atPath: output + ".nibble-partial")) ?? []
        #expect(names.count { $0.hasPrefix("states-") } <= 2)
      }
    }
  }

  private func expectRefusal(of output: String, _ body: () throws -> Void) throws {
    do {
      try body()
      Issue.record("was not refused")
    } catch let error as QuantizeError {
      guard case .folder(.unfinishedRun(let path, _)) = error else { throw error }
      #expect(path == output + ".nibble-partial")
      #expect("\(error)".contains("Remove that folder"))
    }
    #expect(!exists(output))
  }
}
