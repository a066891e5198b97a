import Foundation
import NibbleFormats
import NibbleTensor
import Testing

private let one = "pytorch_model-00001-of-00002.bin"
private let two = "pytorch_model-00002-of-00002.bin"

@Suite struct PyTorchCheckpointTests {
  private func copy(_ names: String..., to folder: String) throws {
    for name in names { try write(try fixture("pytorch/" + name), folder + "/" + name) }
  }

  private func fault(_ folder: String) -> CheckpointFault? {
    do throws(FormatError) {
      _ = try PyTorchCheckpoint(folder: folder)
      return nil
    } catch {
      guard case .checkpoint(folder, let fault) = error else { return nil }
      return fault
    }
  }

  @Test func readsShardsAndOneFile() throws {
    try inTemporaryFolder { folder in
      #expect(fault(folder) == .noWeights && !PyTorchCheckpoint.isIn(folder))
      try copy(one, two, PyTorchCheckpoint.indexName, to: folder)
      #expect(PyTorchCheckpoint.isIn(folder))
      let sharded = try PyTorchCheckpoint(folder: folder)
      #expect(sharded.names == ["y", "x", "z"])
      #expect(sharded.files == [folder + "/" + one, folder + "/" + two])
      #expect(sharded.storedBytes == 54)
      #expect(sharded.entry("z")?.dtype == .bf16 && sharded.entry("other") == nil)
      let oracle = try SafetensorsFile(
        path: fixturePath("pytorch/" + two.replacing(".bin", with: ".safetensors")))
      #expect(sharded.bytes(of: "z")?.array == oracle.bytes(of: "z")?.array)

      try copy(one, to: folder)
      try write(try fixture("pytorch/views.bin"), folder + "/pytorch_model.bin")
      #expect(fault(folder) == .twoModels("pytorch_model.bin"))
    }
    try inTemporaryFolder { folder in
      try write(try fixture("pytorch/module.bin"), folder + "/pytorch_model.bin")
      let single = try PyTorchCheckpoint(folder: folder)
      #expect(single.isTied("head.weight") && single.names.count == 7)
    }
  }

  @Test func refusesShardsThatDoNotBelongTogether() throws {
    try inTemporaryFolder { folder in
      try copy(one, PyTorchCheckpoint.indexName, to: folder)
      #expect(fault(folder) == .shardMissing(two))
      try write(try fixture("pytorch/" + one), folder + "/" + two)
      #expect(fault(folder) == .tensorTwice("y", one, two))
      try write(try fixture("pytorch/views.bin"), folder + "/" + two)
      #expect(fault(folder) == .tensorMissing("z", two))
      try write(
        Array(#"{"weight_map":{"a":"../x.bin"}}"#.utf8),
        folder + "/" + PyTorchCheckpoint.indexName)
      #expect(fault(folder) == .fileNameRefused("../x.bin", "a"))
    }
  }
}
