import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import Testing
import TinyModel

@Suite struct PyTorchRunTests {
  /// Writes one model twice: as the reference writes safetensors, and as torch.save does, in another
  /// order and over `shards` files.
  private func write(_ model: TinyModel, in folder: String, shards: Int) throws {
    let (safetensors, pytorch) = (folder + "/safetensors", folder + "/pytorch")
    try model.write(in: safetensors, config: [:])
    try FileManager.default.createDirectory(
      atPath: pytorch, withIntermediateDirectories: false)
    try FileManager.default.copyItem(
      atPath: safetensors + "/config.json", toPath: pytorch + "/config.json")
    let path = safetensors + "/model.safetensors"
    let file = try SafetensorsFile(path: path)
    let layout = try SafetensorsLayout(SafetensorsLayout.referenceOrder(model.tensors))
    let whole = TorchFile(file)
    let writer = try SafetensorsWriter(layout: layout, path: path + ".new")
    for entry in layout.entries {
      try writer.append(try #require(file.bytes(of: entry.name)), of: entry.name)
    }
    try writer.finish()
    try FileManager.default.removeItem(atPath: path)
    try FileManager.default.moveItem(atPath: path + ".new", toPath: path)
    try writeShards(of: whole, count: shards, in: pytorch)
  }

  private func writeShards(of whole: TorchFile, count: Int, in folder: String) throws {
    guard count > 1 else {
      try Data(whole.bytes).write(to: URL(fileURLWithPath: folder + "/pytorch_model.bin"))
      return
    }
    var map = JSONObject()
    // By name, so that the order of tensors is that of one safetensors file.
    let names = whole.tensors.map(\.name).sorted()
    for shard in 0..<count {
      let name = "pytorch_model-0000\(shard + 1)-of-0000\(count).bin"
      let part = names[names.count * shard / count..<names.count * (shard + 1) / count]
      var file = whole
      file.tensors = whole.tensors.filter { part.contains($0.name) }
      for tensor in part { map[tensor] = .string(name) }
      try Data(file.bytes).write(to: URL(fileURLWithPath: folder + "/" + name))
    }
    let index: JSON = ["metadata": ["total_size": 1], "weight_map": .object(map)]
    try Data(index.text().utf8).write(
      to: URL(fileURLWithPath: folder + "/pytorch_model.bin.index.json"))
  }

  @Test(arguments: ["w8a8", "w4a16", "head"], [1, 3])
  func quantizesToTheBytesOfTheSameWeightsAsSafetensors(_ name: String, _ shards: Int) throws {
    try inTemporaryFolder { folder in
      try write(TinyModel(), in: folder, shards: shards)
      let setting = TinyRun(try Recipes.named(name))
      try setting.run(folder + "/safetensors", to: folder + "/one")
      try setting.run(folder + "/pytorch", to: folder + "/two")
      #expect(try files(folder + "/one") == files(folder + "/two"))
    }
  }

  @Test func aTiedHeadThatIsStoredWithTheEmbeddingIsTheEmbedding() throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      model.tiesHead = true
      try write(model, in: folder, shards: 1)
      let path = folder + "/pytorch"
      let safetensors = try Checkpoint(path: folder + "/safetensors")
      var file = TorchFile(try SafetensorsFile(path: folder + "/safetensors/model.safetensors"))
      let embedding = try #require(
        file.tensors.first { $0.name == "model.embed_tokens.weight" })
      var head = embedding
      head.name = "lm_head.weight"
      file.tensors.append(head)
      try writeShards(of: file, count: 1, in: path)
      let tied = try Checkpoint(path: path)
      #expect(tied.tensors == safetensors.tensors)
      #expect(tied.bytesOnDisk == safetensors.bytesOnDisk)
      let setting = TinyRun()
      try setting.run(folder + "/safetensors", to: folder + "/one")
      try setting.run(path, to: folder + "/two")
      #expect(try files(folder + "/one") == files(folder + "/two"))

      // A head of its own stays, and so does one that the config does not tie.
      file.tensors[file.tensors.count - 1].storage = file.storages.count
      file.storages.append(Array(repeating: 1, count: 2 * model.vocabulary * model.hidden))
      try writeShards(of: file, count: 1, in: path)
      #expect(try Checkpoint(path: path).tensor("lm_head.weight") != nil)
      file.tensors[file.tensors.count - 1] = head
      try writeShards(of: file, count: 1, in: path)
      var config = model.config
      config.set("tie_word_embeddings", .bool(false))
      try Data(config.text().utf8).write(to: URL(fileURLWithPath: path + "/config.json"))
      #expect(try Checkpoint(path: path).tensor("lm_head.weight") != nil)
    }
  }

  @Test func safetensorsComeFirstAndTheOtherFormatIsDropped() throws {
    try inTemporaryFolder { folder in
      try write(TinyModel(), in: folder, shards: 3)
      let source = folder + "/pytorch"
      let sharded = try Checkpoint(path: source)
      #expect(sharded.weightFiles.count == 3 && sharded.isMapped)
      let identity = try sharded.identity()
      #expect(identity.count == 3)
      #expect(try CompanionFiles(of: sharded).dropped.isEmpty)
      #expect(try CompanionFiles(of: sharded).copied.isEmpty)
      try Data([1]).write(to: URL(fileURLWithPath: source + "/training_args.bin"))
      #expect(try CompanionFiles(of: sharded).dropped.map(\.name) == ["training_args.bin"])

      try FileManager.default.copyItem(
        atPath: folder + "/safetensors/model.safetensors", toPath: source + "/model.safetensors")
      let both = try Checkpoint(path: source)
      #expect(both.weightFiles == [source + "/model.safetensors"])
      let companions = try CompanionFiles(of: both)
      #expect(companions.copied.isEmpty)
      #expect(
        companions.dropped.map(\.name)
          == (1...3).map { "pytorch_model-0000\($0)-of-00003.bin" } + [
            "pytorch_model.bin.index.json", "training_args.bin",
          ])
    }
  }

  @Test func aDamagedFileIsNamed() throws {
    try inTemporaryFolder { folder in
      try write(TinyModel(), in: folder, shards: 1)
      let path = folder + "/pytorch/pytorch_model.bin"
      let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
      try bytes.dropLast(1).write(to: URL(fileURLWithPath: path))
      let error = #expect(throws: ModelError.self) { try Checkpoint(path: folder + "/pytorch") }
      #expect(
        error
          == .format(.pytorch(path: path, name: nil, .zip(.noDirectory))))
    }
  }
}
