import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleEngines

/// The stacked experts of gpt-oss in MXFP4. Their logits are compared with transformers' here and
/// not in FamilyTests, because the reader is part of this module.
@Suite struct MXFP4Tests {
  private static let models = FamilyFixture.models(of: ["gpt_oss"]).filter {
    $0.config["quantization_config"] != nil
  }

  private func inFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("mxfp4-" + UUID().uuidString).path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  @Test func logitsAreThoseOfTransformers() throws {
    #expect(!Self.models.isEmpty)
    for model in Self.models {
      try inFolder { folder in
        try model.write(in: folder)
        let decoder = try LoadedModel(path: folder).decoder
        var session = try Session(
          decoder, capacity: model.tokens.count, on: Compute(threads: 2, precision: .f32))
        let states = try session.states(after: model.tokens)
        var logits: [Float] = []
        session.withLogits(states, 0..<model.tokens.count) { logits = $0 }
        let largest = model.logits.reduce(0) { max($0, abs($1)) }
        let difference = zip(logits, model.logits).reduce(0) { max($0, abs($1.0 - $1.1)) } / largest
        #expect(difference < 2e-5, "\(model)")
      }
    }
  }

  /// Compares the stored codes with the formula, value by value.
  @Test func valuesAreCodesTimesPowersOfTwo() throws {
    let model = try #require(Self.models.first)
    try inFolder { folder in
      try model.write(in: folder)
      let checkpoint = try Checkpoint(path: folder)
      let decoder = try LoadedModel(checkpoint).decoder
      let block = decoder.blocks[1]
      let name = "model.layers.1.mlp.experts.gate_up_proj"
      let blocks = try checkpoint.bytes(of: name + "_blocks").array
      let scales = try checkpoint.bytes(of: name + "_scales").array
      let values: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
      // In expert 2, row 3 of gate is row 6 of the stacked 128 rows, and row 3 of up is row 7.
      for (role, row) in [("gate", 6), ("up", 7)] {
        let id = LinearID(rawValue: "mlp.experts.2.\(role)_proj")
        let linear = try #require(block.linears[id])
        let found = linear.weight.values(of: 3..<4)
        let start = (2 * 128 + row) * 32
        let expected = (0..<32).map { input -> Float in
          let byte = blocks[start / 2 + input / 2]
          let code = input.isMultiple(of: 2) ? byte & 15 : byte >> 4
          let value = values[Int(code & 7)] * powf(2, Float(Int(scales[start / 32]) - 127))
          return code & 8 == 0 ? value : -value
        }
        #expect(found == expected, "\(role)")
      }
    }
  }

  @Test func aScaleThatIsNoNumberIsRefused() throws {
    let model = try #require(Self.models.first)
    try inFolder { folder in
      try model.write(in: folder)
      let path = folder + "/model.safetensors"
      let name = "model.layers.0.mlp.experts.down_proj_scales"
      var data = try Data(contentsOf: URL(fileURLWithPath: path))
      let needle = Data(try Checkpoint(path: folder).bytes(of: name).array)
      let range = try #require(data.range(of: needle))
      data[range.lowerBound] = 255
      try data.write(to: URL(fileURLWithPath: path))
      let error = #expect(throws: ModelError.self) { try LoadedModel(path: folder) }
      #expect(error.map { "\($0)" }?.contains("is not a number") == true)
    }
  }

  @Test func aFloatExpertBesideThemIsUnknown() throws {
    let model = try #require(Self.models.first)
    try inFolder { folder in
      // The config does not mention MXFP4, so no reader knows the names of the tensors.
      try model.write(in: folder) { $0.set("quantization_config", nil) }
      let error = #expect(throws: ModelError.self) { try LoadedModel(path: folder) }
      #expect(error.map { "\($0)" }?.contains("gate_up_proj_blocks") == true)
    }
  }
}
