import Foundation
import NibbleFormats
import NibbleModel
import NibbleQuantize
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleEngines

/// What Nibble's own writers make has no finding.
@Suite struct WrittenContractTests {
  private static let fp8PerTensor: Recipe = {
    var recipe = Recipe.fp8
    recipe.scheme.weights.granularity = .tensor
    return recipe
  }()

  private static func int4(symmetric: Bool) -> Recipe {
    (try? Recipe.preset("w4a16", group: 32, symmetric: symmetric)) ?? .w8a8
  }

  static let writers: [(Recipe, EngineFormat, [String])] = [
    (.w8a8, .compressedTensors, ["vllm", "transformers", "sglang", "vllm-ascend"]),
    (.w8a16, .compressedTensors, ["vllm", "transformers"]),
    (int4(symmetric: true), .compressedTensors, ["vllm", "transformers", "lmdeploy"]),
    (int4(symmetric: false), .compressedTensors, ["vllm", "lmdeploy"]),
    (.fp8, .compressedTensors, ["vllm", "transformers", "sglang"]),
    (.mxfp4, .compressedTensors, ["vllm", "transformers", "mlx"]),
    (.nvfp4, .compressedTensors, ["vllm", "transformers", "mlx"]),
    (int4(symmetric: false), .awq, ["vllm", "transformers", "lmdeploy-pytorch"]),
    (fp8PerTensor, .fp8, ["vllm", "sglang"]),
    (int4(symmetric: true), .gptq, ["vllm", "transformers", "sglang", "llama.cpp"]),
    (int4(symmetric: false), .gptq, ["transformers"]),
    (int4(symmetric: true), .mlx, ["mlx"]),
    (.mxfp4, .mlx, ["mlx"]),
    (.w8a8, .ascend, ["ascend", "vllm-ascend"]),
  ]

  @Test(arguments: writers)
  func whatIsWrittenHasNoFindings(
    _ recipe: Recipe, _ format: EngineFormat, _ engines: [String]
  ) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder.appendingPathComponent("source"), folder.path + "/out")
      try TinyModel().write(to: source)
      try Data(ByteTokenizer.json.text().utf8).write(
        to: source.appendingPathComponent("tokenizer.json"))
      let checkpoint = try Checkpoint(path: source.path)
      let plan = try Plan(
        checkpoint, recipe: recipe, exporter: format.exporter, windows: WindowSizes())
      #expect(plan.refusals.isEmpty, "\(plan.refusals)")
      _ = try QuantizeRun(
        checkpoint, plan, windows: QuantizeRun.Windows(), files: try CompanionFiles(of: checkpoint),
        on: oneThread
      ).run(to: output, progress: { _ in })
      for engine in engines {
        let contract = try #require(EngineContract.named(engine))
        let report = try EngineCheck(contract).run(path: output, ranks: 1, on: oneThread)
        #expect(report.findings.isEmpty, "\(engine): \(report.findings)")
      }
    }
  }

  /// A writer that errs is caught before the folder gets its name.
  @Test func aFaultyWriterFailsTheRun() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder.appendingPathComponent("source"), folder.path + "/out")
      try TinyModel().write(to: source)
      let checkpoint = try Checkpoint(path: source.path)
      let plan = try Plan(
        checkpoint, recipe: .w8a8, exporter: FaultyWriter(), windows: WindowSizes())
      let run = QuantizeRun(
        checkpoint, plan, windows: QuantizeRun.Windows(), files: try CompanionFiles(of: checkpoint),
        on: oneThread)
      let error = try #require(throws: QuantizeError.self) {
        try run.run(to: output, progress: { _ in })
      }
      guard case .brokenFormat(_, let faults) = error else {
        Issue.record("\(error)")
        return
      }
      #expect(faults.contains { $0.contains("SYM") }, "\(faults)")
      #expect("\(error)".contains("fault of Nibble"))
      #expect(!FileManager.default.fileExists(atPath: output))
    }
  }
}

/// Writes what ``CompressedTensors`` writes, and a config that says asymmetric.
private struct FaultyWriter: Exporter {
  private let writer = CompressedTensors()
  var name: String { writer.name }

  func refusals(_ plan: Plan) -> [Refusal] { [] }
  func tensors(of layer: Plan.Layer) -> [SafetensorsLayout.Tensor] { writer.tensors(of: layer) }
  func scaleFormat(of layer: Plan.Layer) -> FloatFormat { writer.scaleFormat(of: layer) }
  func faults(in folder: String) -> [String] { writer.faults(in: folder) }

  func encode(
    _ matrix: QuantizedMatrix, inputs: InputRounding?, of layer: Plan.Layer
  ) -> [String: Bytes] { writer.encode(matrix, inputs: inputs, of: layer) }

  func config(_ source: JSON, _ plan: Plan) -> JSON {
    let text = writer.config(source, plan).text()
    let wrong = text.replacing("\"symmetric\":true", with: "\"symmetric\":false")
    return (try? JSON(parsing: wrong)) ?? .null
  }
}
