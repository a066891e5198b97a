import Foundation
import NibbleEngines
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

@Suite struct QuantizeRunTests {
  @Test(arguments: Recipes.names)
  func theOutputIsTheModelThatWasMeasured(_ name: String) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      var setting = TinyRun(try Recipes.named(name))
      setting.windows.heldOut = (0..<3).map { someTokens(16, below: 128, seed: UInt64($0)) }
      let report = try setting.run(source, to: output)
      let verdict = try #require(report.verdict)
      #expect(!exists(output + ".nibble-partial"))

      let (base, quantized) = (try LoadedModel(path: source), try LoadedModel(path: output))
      var windows = EvaluationWindows()
      windows.length = 16
      let evaluation = try Evaluation(
        quantized.decoder, against: base.decoder, tokens: setting.windows.heldOut.flatMap(\.self),
        windows: windows, on: Compute(threads: 1, precision: .f32)
      ) { _, _, _ in }
      let comparison = try #require(evaluation.comparison)
      // The same arithmetic in the same order: only the way to the numbers differs.
      #expect(abs(comparison.kl - verdict.kl) <= 1e-6 + 1e-4 * verdict.kl)
      #expect(comparison.top1 == verdict.top1)
      #expect(abs(evaluation.perplexity - verdict.perplexity) <= 1e-4 * verdict.perplexity)
      #expect(
        abs(comparison.basePerplexity - verdict.sourcePerplexity)
          <= 1e-4 * verdict.sourcePerplexity)
      #expect(evaluation.scoredTokens == verdict.tokens && verdict.tokens == 45)
      #expect(verdict.kl > 0, "rounding costs something")
    }
  }

  @Test(arguments: Recipes.names)
  func theCodesOnDiskAreThoseOfRounding(_ name: String) throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      let model = TinyModel()
      try model.write(in: source, config: [:])
      let setting = TinyRun(try Recipes.named(name))
      let plan = try setting.plan(source)
      try setting.run(source, to: output)
      let checkpoint = try Checkpoint(path: source)
      let written = try Checkpoint(path: output)
      let exporter = CompressedTensors()
      let compute = Compute(threads: 1, precision: .f32)
      #expect(plan.layers.count == 7 * model.blocks + (setting.recipe.quantizesHead ? 1 : 0))
      var expected: Set<String> = []
      for layer in plan.layers {
        let matrix = try QuantizedMatrix(
          rounding: checkpoint.matrix(
            layer.path + ".weight", rows: layer.outputs, columns: layer.inputs),
          to: layer.scheme.weights, scaleFormat: exporter.scaleFormat(of: layer),
          sharedPeak: try layer.fused(among: plan.layers).map {
            try checkpoint.matrix($0.path + ".weight", rows: $0.outputs, columns: $0.inputs)
              .peak(on: compute)
          }.max() ?? 0, search: setting.recipe.plainRound.search, on: compute)
        for (tensor, bytes) in exporter.encode(
          matrix, inputs: layer.scheme.activations.map { InputRounding($0) }, of: layer)
        {
          #expect(try written.bytes(of: tensor).array == bytes.array, "\(tensor)")
          expected.insert(tensor)
        }
      }
      for tensor in checkpoint.tensors
      where !plan.layers.contains(where: { $0.path + ".weight" == tensor.name }) {
        #expect(
          try written.bytes(of: tensor.name).array == checkpoint.bytes(of: tensor.name).array,
          "\(tensor.name)")
        expected.insert(tensor.name)
      }
      #expect(Set(written.tensors.map(\.name)) == expected)
    }
  }

  @Test func theReportSaysWhatEachLayerLost() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      let report = try TinyRun(.w8a16).run(source, to: output)
      let checkpoint = try Checkpoint(path: source)
      let decoder = try LoadedModel(path: output).decoder
      for layer in report.layers {
        let block = try #require(Int(layer.path.split(separator: ".")[2]))
        let linear = try #require(
          decoder.shape.blocks[block].linears.first { layer.path.hasSuffix($0.id.rawValue) })
        let weight = try #require(decoder.blocks[block].linears[linear.id]?.weight)
        let original = try checkpoint.matrix(
          layer.path + ".weight", rows: weight.rows, columns: weight.columns)
        var (noise, signal) = (0.0, 0.0)
        let decoded = weight.values(of: 0..<weight.rows)
        for (x, y) in zip(original.values(of: 0..<weight.rows), decoded) {
          noise += Double(x - y) * Double(x - y)
          signal += Double(x) * Double(x)
        }
        let decibels = try #require(layer.signalToNoise)
        #expect(abs(decibels - 10 * log10(signal / noise)) < 1e-3, "\(layer.path)")
        // 8 bits of uniform values: about 6.02 dB a bit.
        #expect(decibels > 40 && decibels < 56)
      }
      let json = try Checkpoint.json(output + "/nibble_report.json")
      #expect(json["layers"]?.array?.count == report.layers.count)
      #expect(json["verdict"]?["kl"]?.double == report.verdict?.kl)
    }
  }

  @Test func filesBesideTheWeightsAreCopiedOrNamed() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try TinyModel().write(in: source, config: [:])
      let texts = ["LICENSE": "free\n", "tokenizer.json": "{}", "empty.txt": ""]
      for (name, text) in texts {
        try Data(text.utf8).write(to: URL(fileURLWithPath: source + "/" + name))
      }
      for name in ["pytorch_model.bin", ".hidden"] {
        try Data([1]).write(to: URL(fileURLWithPath: source + "/" + name))
      }
      try FileManager.default.createDirectory(
        atPath: source + "/onnx", withIntermediateDirectories: false)
      try TinyRun().run(source, to: output)
      let written = try files(output)
      for (name, text) in texts { #expect(written[name] == Data(text.utf8), "\(name)") }
      #expect(
        Set(written.keys)
          == Set(texts.keys).union(["config.json", "model.safetensors", "nibble_report.json"]))
      let report = try Checkpoint.json(output + "/nibble_report.json")
      let dropped = report["dropped_files"]?.array?.compactMap { $0["name"]?.string }
      #expect(dropped == [".hidden", "onnx", "pytorch_model.bin"])
    }
  }

  @Test func anUnknownFamilyIsRoundedAndSaysSo() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      var model = TinyModel()
      model.modelType = "lama-ish"
      try model.write(in: source, config: ["num_attention_heads": "many"])
      let setting = TinyRun()
      let plan = try setting.plan(source)
      #expect(plan.decoder == nil)
      let message = "\(try #require(plan.familyError))"
      #expect(message.contains("lama-ish") && message.contains("Llama"), "\(message)")
      #expect(plan.layers.count == 7 * model.blocks)
      let report = try setting.run(source, to: output)
      #expect(report.verdict == nil && report.layers.count == plan.layers.count)

      // The same codes as when the family is known.
      let known = folder + "/known"
      try TinyModel().write(in: known, config: [:])
      try setting.run(known, to: folder + "/known-out")
      let (ours, theirs) = (try files(output), try files(folder + "/known-out"))
      #expect(ours["model.safetensors"] == theirs["model.safetensors"])
      #expect(throws: ModelError.self) { try LoadedModel(path: output) }
    }
  }

  @Test func theRunningErrorGrowsFromZeroAndIsThatOfTheCalibrationWindows() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try TinyModel().write(in: source, config: [:])
      var errors: [[Double]] = []
      for calibration in [[], [someTokens(9, below: 128, seed: 1)]] {
        var setting = TinyRun()
        setting.windows.calibration = calibration
        var seen: [Double] = []
        try setting.run(source, to: folder + "/out\(errors.count)") { step in
          if let error = step.runningError { seen.append(error) }
        }
        #expect(seen.count == TinyModel().blocks)
        #expect(seen.allSatisfy { $0 > 0 && $0 < 0.1 }, "\(seen)")
        errors.append(seen)
      }
      #expect(errors[0] != errors[1])
    }
  }
}
