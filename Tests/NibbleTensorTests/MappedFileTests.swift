import Foundation
import NibbleTensor
import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

@Suite struct MappedFileTests {
  @Test func aMissingFileIsMissing() throws {
    try inTemporaryFolder { folder in
      let error = try #require(throws: FileError.self) { try MappedFile(path: folder + "/none") }
      #expect(error.isMissing)
      #expect(error.path == folder + "/none")
      #expect(error.description.contains(folder))
    }
  }

  @Test func anEmptyFileHoldsNothing() throws {
    try inTemporaryFolder { folder in
      let path = folder + "/empty"
      try Data().write(to: URL(fileURLWithPath: path))
      let file = try MappedFile(path: path)
      #expect(file.count == 0)
      #expect(file.bytes.byteCount == 0)
      file.release(0..<0)
      #expect(Bytes(file, 0..<0).array == [])
    }
  }

  /// A FIFO that nobody writes to must not make the open wait.
  @Test(.timeLimit(.minutes(1))) func foldersAndPipesAreRefused() throws {
    try inTemporaryFolder { folder in
      let folderError = try #require(throws: FileError.self) { try MappedFile(path: folder) }
      #expect(!folderError.isMissing)
      let pipe = folder + "/pipe"
      // The path is copied by the call.
      #expect(unsafe mkfifo(pipe, 0o600) == 0)
      #expect(throws: FileError.self) { try MappedFile(path: pipe) }
    }
  }

  @Test(arguments: [1, 31, 4095, 4096, 4097, 3 * 4096 + 33])
  func releasedPagesReadTheSameAgain(_ count: Int) throws {
    try inTemporaryFolder { folder in
      var random = SplitMix(state: UInt64(count))
      let content = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      try Data(content).write(to: URL(fileURLWithPath: folder + "/file"))
      let file = try MappedFile(path: folder + "/file")
      #expect(file.count == count)
      let all = Bytes(file, 0..<count)
      for range in [0..<count, 0..<0, count..<count, count / 2..<count, 0..<count / 3] {
        file.release(range)
        #expect(all.array == content)
        all[range].release()
        #expect(all[range].array == Array(content[range]))
      }
    }
  }

  @Test func bytesOutliveTheirFile() throws {
    let part = try inTemporaryFolder { folder in
      try Data((0..<100).map { UInt8($0) }).write(to: URL(fileURLWithPath: folder + "/file"))
      return Bytes(try MappedFile(path: folder + "/file"), 10..<90)
    }
    #expect(part.array == (10..<90).map { UInt8($0) })
  }

  @Test func slicesOfSlicesCountFromTheirStart() throws {
    let array = Bytes((0..<100).map { UInt8($0) })
    #expect(array[10..<50][5..<8].array == [15, 16, 17])
    #expect(array[100..<100].count == 0)
    #expect(array[0..<100].array == array.array)
    array.release()
    #expect(array[1..<2][0..<1].array == [1])
  }
}
