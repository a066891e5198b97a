import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import Testing
import TinyModel

/// Sources that contradict themselves: found from headers, and the culprit is named.
@Suite struct SourceFaultTests {
  @Test func aBiasOfAnotherShapeIsRefusedBeforeTheWork() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      let name = "model.layers.2.self_attn.q_proj.bias"
      try TinyModel().write(
        in: source,
        adding: [(.init(name: name, dtype: .f16, shape: [63]), .init(repeating: 0, count: 63))])
      try expectRefusal(of: source, naming: [name])
    }
  }

  @Test func biasesThatTheConfigPromisesMustBeThere() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/source", config: ["attention_bias": true])
      try expectRefusal(of: folder + "/source", naming: ["bias"])
    }
  }

  @Test(arguments: ["model.embed_tokens.weight", "lm_head.weight"])
  func anEmbeddingOrHeadThatIsNoNumberIsNamed(_ name: String) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      var setting = TinyRun()
      setting.windows.heldOut = [[0, 1, 2, 3]]
      setting.windows.calibration = []
      try TinyModel().write(in: source, config: [:]) { tensor, values in
        if tensor == name { values[2 * 64 + 1] = .nan }
      }
      do {
        let report = try setting.run(source, to: output)
        Issue.record("was not refused; the verdict is \(String(describing: report.verdict))")
      } catch { #expect("\(error)".contains(name), "\(error)") }
      #expect(!exists(output))
    }
  }

  struct Contradiction: Sendable, CustomTestStringConvertible {
    var field: String
    var value: JSON
    /// What the message must name.
    var named: [String]
    var testDescription: String { "\(field) \(value.text())" }
  }

  static let contradictions = [
    Contradiction(field: "hidden_size", value: 32, named: ["[64", "shape"]),
    Contradiction(field: "hidden_size", value: 0, named: ["hidden_size"]),
    Contradiction(field: "hidden_size", value: -64, named: ["hidden_size"]),
    Contradiction(field: "hidden_size", value: "64", named: ["hidden_size"]),
    Contradiction(field: "hidden_size", value: .null, named: ["hidden_size", "missing"]),
    Contradiction(field: "hidden_size", value: 1e300, named: ["hidden_size"]),
    Contradiction(field: "intermediate_size", value: 95, named: ["mlp", "95"]),
    Contradiction(field: "num_hidden_layers", value: 2, named: ["num_hidden_layers", "block 2"]),
    Contradiction(field: "num_hidden_layers", value: 4, named: ["model.layers.3"]),
    Contradiction(field: "num_hidden_layers", value: 1_000_000_000, named: ["num_hidden_layers"]),
    Contradiction(field: "num_attention_heads", value: 3, named: ["num_key_value_heads"]),
    Contradiction(field: "num_attention_heads", value: 8, named: ["q_proj", "128"]),
    Contradiction(field: "num_key_value_heads", value: 1, named: ["k_proj"]),
    Contradiction(field: "head_dim", value: 15, named: ["head_dim"]),
    Contradiction(field: "head_dim", value: 268_435_456, named: ["q_proj"]),
    Contradiction(field: "vocab_size", value: 127, named: ["model.embed_tokens.weight", "127"]),
    Contradiction(field: "rms_norm_eps", value: 0, named: ["rms_norm_eps"]),
    Contradiction(field: "rms_norm_eps", value: .null, named: ["rms_norm_eps"]),
    Contradiction(field: "hidden_act", value: "mish", named: ["hidden_act", "mish"]),
    Contradiction(
      field: "rope_scaling", value: ["rope_type": "spiral", "factor": 2], named: ["spiral"]),
    Contradiction(field: "sliding_window", value: -1, named: ["sliding_window"]),
    Contradiction(field: "model_type", value: .null, named: ["model_type"]),
    Contradiction(field: "model_type", value: 7, named: ["model_type"]),
  ]

  @Test(arguments: contradictions)
  func aConfigThatContradictsTheTensorsIsRefused(_ case: Contradiction) throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(in: folder + "/source", config: [`case`.field: `case`.value])
      try expectRefusal(of: folder + "/source", naming: `case`.named)
    }
  }

  @Test func anyTensorThatIsMissingIsNamed() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      let tensors = TinyModel().tensors
      for missing in tensors where !missing.name.contains("layers.1") {
        try? FileManager.default.removeItem(atPath: source)
        try TinyModel().write(in: source, config: [:])
        let layout = try SafetensorsLayout(tensors.filter { $0.name != missing.name })
        let writer = try SafetensorsWriter(layout: layout, path: source + "/model.safetensors")
        for entry in layout.entries {
          try writer.append(
            Bytes([UInt8](repeating: 0, count: entry.range.count)), of: entry.name)
        }
        try writer.finish()
        try expectRefusal(of: source, naming: [missing.name, "missing"])
      }
    }
  }

  @Test func aTensorOfAnotherTypeIsNamed() throws {
    try inTemporaryFolder { folder in
      for name in ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"] {
        let source = folder + "/" + name
        try TinyModel().write(in: source, config: [:])
        let tensors = TinyModel().tensors.map {
          SafetensorsLayout.Tensor(
            name: $0.name, dtype: $0.name == name ? .i8 : $0.dtype, shape: $0.shape)
        }
        let layout = try SafetensorsLayout(tensors)
        let writer = try SafetensorsWriter(layout: layout, path: source + "/model.safetensors")
        for entry in layout.entries {
          try writer.append(
            Bytes([UInt8](repeating: 0, count: entry.range.count)), of: entry.name)
        }
        try writer.finish()
        try expectRefusal(of: source, naming: [name, "I8"])
      }
    }
  }

  @Test func aModelThatIsQuantizedAlreadyIsRefused() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      try TinyRun().run(source, to: output)
      #expect(
        throws: QuantizeError.alreadyQuantized(path: output, method: "compressed-tensors")
      ) { try TinyRun().plan(output) }
    }
  }

  @Test(arguments: Recipes.names, [Float.nan, .infinity, -.infinity])
  func aWeightThatIsNoNumberIsNamedWithItsPlace(_ recipe: String, _ value: Float) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      let name = "model.layers.1.mlp.down_proj.weight"
      try TinyModel().write(in: source, config: [:]) { tensor, values in
        if tensor == name {
          values[4001] = value
          values[5000] = .nan
        }
      }
      #expect(throws: QuantizeError.nonFinite(tensor: name, index: 4001)) {
        try TinyRun(try Recipes.named(recipe)).run(source, to: output)
      }
      #expect(!exists(output))
    }
  }

  @Test(arguments: ["model.layers.1.input_layernorm.weight", "model.norm.weight"])
  func aNormThatIsNoNumberIsNamedWithItsPlace(_ name: String) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:]) { tensor, values in
        if tensor == name { values[5] = .nan }
      }
      #expect(throws: QuantizeError.model(.nonFinite(tensor: name, index: 5))) {
        try TinyRun().run(source, to: output)
      }
    }
  }

  private func expectRefusal(of source: String, naming words: [String]) throws {
    do {
      let plan = try TinyRun().plan(source)
      Issue.record("was not refused: \(plan.layers.count) layers")
    } catch let error as QuantizeError {
      for word in words { #expect("\(error)".contains(word), "\(error)") }
      #expect("\(error)".contains("source") || "\(error)".contains("config"), "\(error)")
    }
  }
}
