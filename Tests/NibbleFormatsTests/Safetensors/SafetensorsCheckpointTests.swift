import NibbleFormats
import NibbleTensor
import Testing

private func shard(_ names: [String], _ path: String) throws {
  let layout = try SafetensorsLayout(names.map { .init(name: $0, dtype: .u8, shape: [2]) })
  let writer = try SafetensorsWriter(layout: layout, path: path)
  for name in names {
    let first = name.utf8.first!
    try writer.append(Bytes([first, 7]), of: name)
  }
  try writer.finish()
}

private func index(_ map: [(String, String)], _ folder: String) throws {
  var object = JSONObject()
  for (tensor, file) in map { object[tensor] = .string(file) }
  let text = JSON.object(object).text()
  try write(
    Array("{\"metadata\":{},\"weight_map\":\(text)}".utf8),
    folder + "/model.safetensors.index.json")
}

private let one = "model-00001-of-00002.safetensors"
private let two = "model-00002-of-00002.safetensors"

@Suite struct SafetensorsCheckpointTests {
  private func fault(_ folder: String) -> CheckpointFault? {
    do throws(FormatError) {
      _ = try SafetensorsCheckpoint(folder: folder)
      return nil
    } catch {
      guard case .checkpoint(folder, let fault) = error else { return nil }
      return fault
    }
  }

  @Test func readsShardsAFolderAndOneFile() throws {
    try inTemporaryFolder { folder in
      #expect(fault(folder) == .noWeights)
      try shard(["b", "a"], folder + "/" + one)
      try shard(["c", "d"], folder + "/" + two)
      try index([("a", one), ("b", one), ("c", two)], folder)
      let sharded = try SafetensorsCheckpoint(folder: folder)
      #expect(sharded.names == ["b", "a", "c", "d"])
      #expect(sharded.files == [folder + "/" + one, folder + "/" + two])
      #expect(sharded.bytes(of: "c")?.array == [UInt8(ascii: "c"), 7])
      #expect(sharded.entry("x") == nil)

      let single = try SafetensorsCheckpoint(folder: folder + "/" + two)
      #expect(single.names == ["c", "d"])
      let byIndex = try SafetensorsCheckpoint(folder: folder + "/model.safetensors.index.json")
      #expect(byIndex.names == sharded.names)

      try shard(["b"], folder + "/model.safetensors")
      #expect(fault(folder) == .twoModels("model.safetensors"))
    }
    try inTemporaryFolder { folder in
      try shard(["b"], folder + "/model.safetensors")
      #expect(try SafetensorsCheckpoint(folder: folder).names == ["b"])
    }
  }

  @Test func refusesShardsThatDoNotBelongTogether() throws {
    try inTemporaryFolder { folder in
      try shard(["a", "b"], folder + "/" + one)
      try index([("a", one), ("c", two)], folder)
      #expect(fault(folder) == .shardMissing(two))
      try shard(["c", "a"], folder + "/" + two)
      #expect(fault(folder) == .tensorTwice("a", one, two))
      try shard(["d"], folder + "/" + two)
      #expect(fault(folder) == .tensorMissing("c", two))
      try index([("a", two), ("d", two), ("b", one)], folder)
      #expect(fault(folder) == .tensorMissing("a", two))
      try write(Array("{\"weight_map\":{}}".utf8), folder + "/model.safetensors.index.json")
      #expect(fault(folder) == .indexWithoutMap)
      try write(Array("{\"weight_map\":".utf8), folder + "/model.safetensors.index.json")
      guard case .indexNotJSON(let error) = fault(folder) else {
        Issue.record("the index was read")
        return
      }
      #expect(error.byte == 14)
    }
  }

  @Test(arguments: [
    "/etc/passwd", "../x.safetensors", "a/b.safetensors", "..", ".", "", "a\\b", "a\0.safetensors",
    "a\u{1B}[2J.safetensors",
  ])
  func refusesAFileName(_ name: String) throws {
    try inTemporaryFolder { folder in
      try index([("a", name)], folder)
      #expect(fault(folder) == .fileNameRefused(name, "a"))
    }
  }

  @Test func writesTheIndexOfTransformers() throws {
    let first = try SafetensorsLayout([.init(name: "model.a", dtype: .f32, shape: [2])])
    let second = try SafetensorsLayout([
      .init(name: "model.b", dtype: .f16, shape: [4]),
      .init(name: "lm_head.weight", dtype: .i64, shape: []),
    ])
    let names = (0..<2).map { SafetensorsIndex.fileName(shard: $0, of: 2) }
    let text = try SafetensorsIndex.text([(names[0], first), (names[1], second)])
    #expect(Array(text.utf8) == (try fixture("index.json")))
    #expect(throws: FormatError.layout(tensor: "model.a", .duplicateName)) {
      try SafetensorsIndex.text([(names[0], first), (names[1], first)])
    }
  }
}
