import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleEngines
@testable import NibbleQuantize

/// Quantized checkpoints as sources: `--requantize`.
@Suite struct DecodedTests {
  /// Of shapes that every format holds.
  private var wide: TinyModel {
    var model = TinyModel()
    (model.hidden, model.intermediate) = (64, 128)
    (model.heads, model.keyHeads, model.headSize) = (2, 1, 32)
    return model
  }

  @discardableResult
  private func quantize(
    _ checkpoint: Checkpoint, _ recipe: Recipe, _ format: EngineFormat, to output: String
  ) throws -> LoadedModel {
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: format.exporter, windows: WindowSizes())
    #expect(plan.refusals.isEmpty, "\(plan.refusals)")
    let run = QuantizeRun(
      checkpoint, plan, windows: QuantizeRun.Windows(), files: try CompanionFiles(of: checkpoint),
      on: oneThread)
    _ = try run.run(to: output, progress: { _ in })
    return try LoadedModel(path: output)
  }

  private func logits(_ model: LoadedModel) throws -> [Float] {
    var session = try Session(model.decoder, capacity: 9, on: oneThread)
    return try session.append([3, 1, 4, 1, 5, 9, 2, 6])
  }

  static let formats: [(EngineFormat, Recipe)] = [
    (.compressedTensors, .w8a16), (.awq, try! Recipe.preset("w4a16", group: 32, symmetric: false)),
    (.gptq, try! Recipe.preset("w4a16", group: 32)), (.mlx, try! Recipe.preset("w4a16", group: 32)),
  ]

  /// The values are the codes', so that the float model and the quantized one agree but for the rounding
  /// of a value to float16; and int8 of such values is close to them.
  @Test(arguments: formats)
  func theValuesAreThoseOfTheCodes(_ format: EngineFormat, _ recipe: Recipe) throws {
    try inTemporaryFolder { folder in
      try wide.write(to: folder.appendingPathComponent("source"))
      let output = folder.path + "/out"
      let first = try quantize(
        Checkpoint(path: folder.path + "/source"), recipe, format, to: output)
      let view = try LoadedModel.decoded(Checkpoint(path: output))
      #expect(try view.quantizationMethod() == nil)
      #expect(!view.isMapped)
      let (decoder, shape) = (try Decoder(view.decoderShape(), from: view), first.decoder.shape)
      for (block, other) in zip(decoder.blocks, first.decoder.blocks) {
        for linear in shape.blocks[0].linears {
          let floats = try #require(block.linears[linear.id]?.weight)
          let codes = try #require(other.linears[linear.id]?.weight)
          let exact = codes.values(of: 0..<codes.rows)
          guard case .float(let matrix) = floats else {
            Issue.record("\(linear.id) is not float")
            return
          }
          #expect(
            floats.values(of: 0..<codes.rows)
              == matrix.format.decode(Bytes(matrix.format.encode(exact.span))))
        }
      }
      let again = try quantize(view, .w8a16, .compressedTensors, to: folder.path + "/again")
      #expect(again.checkpoint.tensors.allSatisfy { !$0.name.contains("g_idx") })
      let (ours, theirs) = (try logits(again), try logits(first))
      let largest = theirs.map(abs).max() ?? 0
      for (one, other) in zip(ours, theirs) { #expect(abs(one - other) < 0.05 * largest) }
      let names = try FileManager.default.contentsOfDirectory(atPath: folder.path + "/again")
      #expect(!names.contains("quantize_config.json"))
    }
  }

  @Test func aFloatModelIsItself() throws {
    try inTemporaryFolder { folder in
      try TinyModel().write(to: folder)
      let checkpoint = try Checkpoint(path: folder.path)
      #expect(try LoadedModel.decoded(checkpoint).tensors == checkpoint.tensors)
    }
  }

  @Test func formatsWithoutAFloatFormAreNamed() throws {
    try inTemporaryFolder { folder in
      let model = TinyModel()
      try model.write(to: folder)
      var config = model.config
      config.set("quantization_config", ["quant_method": "mxfp4"])
      try Data(config.text().utf8).write(to: folder.appendingPathComponent("config.json"))
      let error = try #require(throws: ModelError.self) {
        try LoadedModel.decoded(Checkpoint(path: folder.path))
      }
      #expect("\(error)".contains("mxfp4") && "\(error)".contains("gptq"))
    }
  }

  /// mlx-lm quantizes the embedding too.
  @Test func anEmbeddingInCodesRuns() throws {
    try inTemporaryFolder { folder in
      try wide.write(to: folder.appendingPathComponent("source"))
      let output = folder.appendingPathComponent("out")
      let first = try quantize(
        Checkpoint(path: folder.path + "/source"), try Recipe.preset("w4a16", group: 32), .mlx,
        to: output.path)
      let source = first.checkpoint
      let path = "model.embed_tokens"
      let embedding = first.decoder.ends.embedding
      let scheme = LinearScheme(
        weights: WeightScheme(format: .int(bits: 6, symmetric: true), granularity: .group(32)))
      let layer = layer(scheme, embedding.rows, embedding.columns, at: path)
      let codes = try QuantizedMatrix(
        rounding: FloatRows(embedding, on: oneThread).matrix, to: scheme.weights,
        scaleFormat: .f16, on: oneThread)
      var changed = try NibbleEnginesTests.checkpoint(codes, of: layer, by: MLX())
      for tensor in source.tensors where tensor.name != path + ".weight" {
        changed.set(tensor.name, tensor.dtype, tensor.shape, try source.bytes(of: tensor.name))
      }
      changed.config = source.config
      let other = folder.appendingPathComponent("embedded")
      try FileManager.default.createDirectory(at: other, withIntermediateDirectories: true)
      try changed.write(to: other)
      let loaded = try LoadedModel(path: other.path)
      #expect(
        loaded.decoder.ends.embedding.values(of: 3..<5)
          == Array(
            codes.decoded()[(3 * embedding.columns)..<(5 * embedding.columns)]))
      let (ours, theirs) = (try logits(loaded), try logits(first))
      let largest = theirs.map(abs).max() ?? 0
      for (one, other) in zip(ours, theirs) { #expect(abs(one - other) < 0.2 * largest) }
      let view = try LoadedModel.decoded(loaded.checkpoint)
      #expect(try view.weight(path, outputs: embedding.rows, inputs: embedding.columns).rows > 0)
    }
  }
}
