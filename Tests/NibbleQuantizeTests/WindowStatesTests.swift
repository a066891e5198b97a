import Foundation
import Testing

@testable import NibbleQuantize

@Suite struct WindowStatesTests {
  /// Held and on disk, the same changes give the same states.
  @Test func statesOnDiskAreThoseInMemory() throws {
    try inTemporaryFolder { folder in
      let sizes = [0, 1500, 7, 0, 4096, 1]
      var held = try WindowStates(sizes: sizes, in: folder)
      var onDisk = try WindowStates(sizes: sizes, in: folder, heldBytes: 100)
      #expect(onDisk.sizes == sizes && held.sizes == sizes)
      for (index, size) in sizes.enumerated() {
        let values = (0..<size).map { Float($0) + Float(index) / 8 }
        held[index] = values
        onDisk[index] = values
      }
      for index in sizes.indices {
        #expect(onDisk[index] == held[index])
        for i in stride(from: 0, to: sizes[index], by: 3) {
          held[index][i] *= 2
          if i < 30 { onDisk[index][i] *= 2 }
        }
        if sizes[index] < 30 { #expect(onDisk[index] == held[index]) }
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }
}
