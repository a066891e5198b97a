import Foundation
import NibbleTensor
import Testing

@Suite struct ScratchFileTests {
  @Test func whatWasWrittenIsReadAndNothingElseChanges() throws {
    try inTemporaryFolder { folder in
      let file = try ScratchFile(in: folder, count: 4 * 5000)
      // The file has no name.
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
      var expected = [Float](repeating: 0, count: 5000)
      var random = SplitMix(state: 3)
      for _ in 0..<50 {
        let start = Int.random(in: 0..<5000, using: &random)
        let count = Int.random(in: 0...5000 - start, using: &random)
        let values = (0..<count).map { _ in Float.random(in: -1...1, using: &random) }
        file.write(values, at: 4 * start)
        expected.replaceSubrange(start..<start + count, with: values)
        #expect(file.floats(at: 4 * start..<4 * (start + count)) == values)
      }
      #expect(file.floats(at: 0..<20_000) == expected)
    }
  }

  @Test func aFolderThatIsNotThereOrADiskWithoutRoomIsAnError() throws {
    try inTemporaryFolder { folder in
      let missing = #expect(throws: FileError.self) {
        try ScratchFile(in: folder + "/none", count: 4)
      }
      #expect(missing?.isMissing == true)
      #expect(throws: FileError.self) { try ScratchFile(in: folder, count: 1 << 60) }
      let left = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(left.isEmpty)
    }
  }
}
