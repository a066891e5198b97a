import Foundation
import NibbleFormats
import NibbleModel
import Testing

@testable import NibbleEngines

/// Headers, configs and tensors that lie: a finding or none, never a trap or a hang.
@Suite struct HostileContractTests {
  private func findings(
    _ model: ContractModel, change: (String) throws -> Void
  ) throws -> [Finding] {
    try inTemporaryFolder { folder in
      try model.write(to: folder.path)
      try change(folder.path)
      let facts = try CheckpointFacts(path: folder.path, ranks: 1024)
      return EngineContract.all.flatMap { $0.findings(in: facts) }
    }
  }

  private static let formats: [StoredFormat] = [.int4Asymmetric, .gptq, .fp8Block, .mlx, .nvfp4]

  @Test(arguments: formats) func truncatedWeightsAreFound(_ format: StoredFormat) throws {
    let model = ContractModel(format)
    for keep in [0, 1, 7, 8, 9, 100, 4000] {
      let found = try findings(model) { folder in
        let url = URL(fileURLWithPath: folder + "/model.safetensors")
        try Data(try Data(contentsOf: url).prefix(keep)).write(to: url)
      }
      #expect(found.contains { $0.check == "SHARD" }, "\(keep)")
    }
  }

  @Test(arguments: formats) func editedConfigsNeverTrap(_ format: StoredFormat) throws {
    let model = ContractModel(format, .mixtral)
    let text = Array(model.config.text().utf8)
    let values = [
      "0", "-1", "1", "9223372036854775807", "-9223372036854775808", "1e300", "null", "[]", "{}",
      "\"\"", "\"re:(((\"", "true", "[[[1]]]", "4611686018427387904", "\"float\"", "3",
      "{\"a\":{\"weights\":{\"num_bits\":-5,\"group_size\":9223372036854775807}}}",
    ]
    var random = SplitMix(state: 11)
    try inTemporaryFolder { folder in
      try model.write(to: folder.path)
      for round in 0..<30 {
        var edited = text
        for _ in 0..<1 + random.next() % 3 {
          let colons = edited.indices.filter { edited[$0] == UInt8(ascii: ":") }
          let start = colons[Int(random.next() % UInt64(colons.count))] + 1
          let end = edited[start...].firstIndex { $0 == 0x2C || $0 == 0x7D } ?? edited.count
          let value = values[Int(random.next() % UInt64(values.count))]
          edited.replaceSubrange(start..<end, with: Array(value.utf8))
        }
        try Data(edited).write(to: URL(fileURLWithPath: folder.path + "/config.json"))
        let facts = try CheckpointFacts(path: folder.path, ranks: 3)
        _ = EngineContract.all[round % EngineContract.all.count].findings(in: facts)
        _ = EngineContract.all[0].findings(in: facts)
      }
    }
  }

  /// Shapes of which each is legal and the product is not what the config says.
  @Test(arguments: formats) func absurdShapesAreFindings(_ format: StoredFormat) throws {
    var model = ContractModel(format)
    for index in model.tensors.indices where model.tensors[index].name.contains("layers.0") {
      model.tensors[index].shape = [0, 1 << 40, 3]
      model.tensors[index].bytes = []
    }
    let found = try findings(model) { _ in }
    #expect(found.contains { $0.check == "SHAPE" })
  }

  @Test func aMillionProblemsAreFewFindings() throws {
    var model = ContractModel(.float)
    for index in 0..<5000 {
      model.tensors.append(
        ("model.layers.0.x\(index).y\(index)", .f32, [0], []))
    }
    let found = try findings(model) { _ in }
    #expect(found.count < 1000)
    #expect(found.contains { $0.check == "NAME" && $0.problem.contains("other problems") })
  }

  @Test func filesThatAreNoJSONAreFound() throws {
    for name in [
      "config.json", "tokenizer.json", "generation_config.json", "quantize_config.json",
      "model.safetensors.index.json", "quant_model_description.json",
    ] {
      _ = try findings(ContractModel(.gptq)) { folder in
        try Data("{\"weight_map\": {\"a\": \"../../x\"}, ".utf8).write(
          to: URL(fileURLWithPath: folder + "/" + name))
      }
    }
    #expect(throws: ModelError.self) { try CheckpointFacts(path: "/of/no/model") }
  }
}
