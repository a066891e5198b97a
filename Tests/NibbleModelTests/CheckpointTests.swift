import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing

@Suite struct CheckpointTests {
  private func inFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder.path)
  }

  private func write(_ text: String, _ path: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
  }

  private func writeTensors(
    _ tensors: [(name: String, dtype: DType, shape: [Int], bytes: [UInt8])], _ folder: String
  ) throws {
    let layout = try SafetensorsLayout(
      tensors.map { SafetensorsLayout.Tensor(name: $0.name, dtype: $0.dtype, shape: $0.shape) })
    let writer = try SafetensorsWriter(layout: layout, path: folder + "/model.safetensors")
    for entry in layout.entries {
      let tensor = try #require(tensors.first { $0.name == entry.name })
      try writer.append(Bytes(tensor.bytes), of: tensor.name)
    }
    try writer.finish()
  }

  private func expectError(_ path: String, naming words: [String]) {
    do {
      let checkpoint = try Checkpoint(path: path)
      Issue.record("\(checkpoint.tensors.count) tensors")
    } catch { for word in words { #expect("\(error)".contains(word), "\(error)") } }
  }

  @Test func aPathThatIsNoModelIsNamedWithWhatIsMissing() throws {
    try inFolder { folder in
      expectError(folder + "/none", naming: [folder + "/none"])
      expectError(folder, naming: [folder + "/config.json"])
      try write("{}", folder + "/config.json")
      expectError(folder, naming: [folder, "model.safetensors"])
      try write("x", folder + "/file.txt")
      expectError(folder + "/file.txt", naming: ["file.txt", ".gguf"])
      try write("GGUX", folder + "/wrong.gguf")
      expectError(folder + "/wrong.gguf", naming: ["wrong.gguf"])
      try write("", folder + "/empty.GGUF")
      expectError(folder + "/empty.GGUF", naming: ["empty.GGUF"])
    }
  }

  @Test func aConfigThatIsNoJSONIsNamed() throws {
    try inFolder { folder in
      try writeTensors([("x", .f32, [1], [0, 0, 0, 0])], folder)
      for text in ["", "{", "{\"a\": 1}}", "\u{0}", "[1,"] {
        try write(text, folder + "/config.json")
        expectError(folder, naming: [folder + "/config.json"])
      }
      // JSON, but no object: opened, and no family.
      try write("[]", folder + "/config.json")
      #expect(throws: ModelError.self) { try Checkpoint(path: folder).decoderShape() }
    }
  }

  @Test func rowsOfTensorsAreReadAsTheyLie() throws {
    try inFolder { folder in
      try write("{}", folder + "/config.json")
      let bytes = (0..<24).map { UInt8($0) }
      try writeTensors(
        [
          ("matrix", .f16, [4, 3], bytes), ("scalar", .f32, [], [1, 2, 3, 4]),
          ("none", .f32, [0, 7], []), ("wide", .f32, [2, 0], []),
        ], folder)
      let checkpoint = try Checkpoint(path: folder)
      let matrix = try #require(checkpoint.tensor("matrix"))
      #expect(matrix.elementCount == 12 && matrix.byteCount == 24)
      #expect(try checkpoint.bytes(of: "matrix").array == bytes)
      #expect(try checkpoint.bytes(of: matrix, rows: 1..<3).array == Array(bytes[6..<18]))
      #expect(try checkpoint.bytes(of: matrix, rows: 2..<2).array == [])
      #expect(try checkpoint.bytes(of: "scalar").array == [1, 2, 3, 4])
      #expect(try checkpoint.bytes(of: "none").array == [])
      #expect(try checkpoint.bytes(of: "wide").array == [])
      #expect(checkpoint.bytesOnDisk == 28)
      #expect(throws: ModelError.missingTensor("other", path: folder)) {
        try checkpoint.bytes(of: "other")
      }
      #expect(throws: ModelError.tensorShape("matrix", found: [4, 3], expected: [3, 4])) {
        try checkpoint.matrix("matrix", rows: 3, columns: 4)
      }
      #expect(try checkpoint.vector("other", count: 3) == nil)
    }
  }

  @Test func aVectorWithANumberThatIsNoneIsNamedWithItsPlace() throws {
    try inFolder { folder in
      try write("{}", folder + "/config.json")
      let values: [Float] = [1, .infinity, .nan]
      try writeTensors(
        [("norm", .f32, [3], FloatFormat.f32.encode(values.span)), ("int", .i8, [1], [1])], folder)
      let checkpoint = try Checkpoint(path: folder)
      #expect(throws: ModelError.nonFinite(tensor: "norm", index: 1)) {
        try checkpoint.vector("norm", count: 3)
      }
      #expect(throws: ModelError.tensorShape("norm", found: [3], expected: [4])) {
        try checkpoint.vector("norm", count: 4)
      }
      #expect(throws: ModelError.self) { try checkpoint.vector("int", count: 1) }
    }
  }

  @Test func theIdentityChangesWithTheWeights() throws {
    try inFolder { folder in
      try write("{}", folder + "/config.json")
      try writeTensors([("x", .f32, [1], [0, 0, 0, 0])], folder)
      let first = try Checkpoint(path: folder).identity()
      #expect(try Checkpoint(path: folder).identity() == first)
      try writeTensors([("x", .f32, [2], [0, 0, 0, 0, 0, 0, 0, 0])], folder)
      #expect(try Checkpoint(path: folder).identity() != first)
    }
  }
}
