import Foundation
import NibbleFormats
import NibbleModel
import NibbleProcesses
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleEngines
@testable import NibbleQuantize

@Suite struct AscendCompressionTests {
  /// A W8A8S model with blocks that 128 outputs divide at one rank, and some at two.
  static func write(to folder: URL, smoothing: Smooth? = nil) throws -> String {
    var model = TinyModel()
    model.blocks = 2
    model.intermediate = 512
    model.heads = 8
    model.keyHeads = 4
    let source = folder.appendingPathComponent("source")
    try model.write(to: source)
    let checkpoint = try Checkpoint(path: source.path)
    var windows = QuantizeRun.Windows()
    windows.calibration = [(0..<32).map { ($0 * 31) % 128 }]
    windows.heldOut = [(0..<16).map { ($0 * 5) % 128 }]
    var recipe = Recipe.w8a8s
    if let smoothing { recipe.steps.insert(smoothing, at: 0) }
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: Ascend(), windows: windows.sizes)
    let output = folder.appendingPathComponent("sparse").path
    _ = try QuantizeRun(
      checkpoint, plan, windows: windows, files: try CompanionFiles(of: checkpoint), on: oneThread
    ).run(to: output, progress: { _ in })
    return output
  }

  private static func logits(_ path: String, keepsCompressed: Bool = false) throws -> Double {
    let decoder = try LoadedModel(path: path, keepsCompressed: keepsCompressed).decoder
    var windows = EvaluationWindows()
    windows.length = 16
    return try Evaluation(
      decoder, against: nil, tokens: (0..<32).map { ($0 * 37) % 128 }, windows: windows,
      on: oneThread
    ) { _, _, _ in }.perplexity
  }

  /// Logits after each of a few tokens, read one at a time.
  private static func steps(_ path: String, keepsCompressed: Bool = false) throws -> [[Float]] {
    let decoder = try LoadedModel(path: path, keepsCompressed: keepsCompressed).decoder
    var session = try Session(decoder, capacity: 8, on: oneThread)
    return try [3, 77, 12].map { try session.append([$0]) }
  }

  @Test(arguments: [1, 2, 4], [false, true])
  func theJoinedPartsAreTheModel(ranks: Int, overlapsTail: Bool) throws {
    try inTemporaryFolder { folder in
      let sparse = try Self.write(to: folder)
      let output = folder.appendingPathComponent("out").path
      let compression = try AscendCompression(
        Checkpoint(path: sparse), ranks: ranks, overlapsTail: overlapsTail)
      let report = try compression.run(to: output, on: oneThread) { _, _ in }
      #expect(report.compressedBytes < report.bytes)
      #expect(compression.kept.isEmpty == overlapsTail)
      #expect(try Self.logits(output) == Self.logits(sparse))
      #expect(try Self.logits(output, keepsCompressed: true) == Self.logits(sparse))
      #expect(try Self.steps(output, keepsCompressed: true) == Self.steps(sparse))
      let (whole, kept) = (
        try LoadedModel(path: output), try LoadedModel(path: output, keepsCompressed: true)
      )
      #expect(kept.decoder.weightBytes < whole.decoder.weightBytes)
      let check = try AscendCheck(path: output, ranks: ranks).run(on: oneThread)
      #expect(check.faults == [])
      #expect(check.compressedBlocks > 0)
      #expect(try AscendCheck(path: output, ranks: 8).run(on: oneThread).faults.count == 1)
    }
  }

  /// Under the names of the runtime's classes the same model runs, whole or kept compressed.
  @Test(arguments: [1, 2, 4], [false, true])
  func fusedModulesAreTheModel(ranks: Int, overlapsTail: Bool) throws {
    try inTemporaryFolder { folder in
      let sparse = try Self.write(to: folder, smoothing: Smooth(normsOnly: true, biasesNorms: true))
      let output = folder.appendingPathComponent("out").path
      let compression = try AscendCompression(
        Checkpoint(path: sparse), ranks: ranks, overlapsTail: overlapsTail, fused: true)
      _ = try compression.run(to: output, on: oneThread) { _, _ in }
      #expect(compression.kept.isEmpty == overlapsTail)
      let part = try Checkpoint(
        path: output, weights: output + "/" + AscendParts.name(ranks - 1, of: ranks))
      let names = Set(part.tensors.map(\.name).filter { $0.hasPrefix("model.layers.0.") })
      func has(_ name: String) -> Bool { names.contains("model.layers.0." + name) }
      #expect(has("self_attn.query_key_value.deq_scale") && has("mlp.gate_up_proj.quant_bias"))
      #expect(has("self_attn.o_proj.weight") && has("mlp.down_proj.weight"))
      #expect(!names.contains { $0.contains("q_proj") || $0.contains(".up_proj") })
      #expect(has("input_layernorm.anti.bias") && has("input_layernorm.ori.weight"))
      #expect(!names.contains { $0.contains(".module.") || $0.hasSuffix("layernorm.weight") })
      #expect(part.tensor("model.norm.weight") != nil, "the final norm has no other name")
      #expect(has("mlp.gate_up_proj.index"), "2 x 512 outputs divide")
      #expect(part.tensor("model.layers.0.mlp.gate_up_proj.quant_bias")?.shape == [1024 / ranks])
      #expect(try Self.logits(output) == Self.logits(sparse))
      #expect(try Self.logits(output, keepsCompressed: true) == Self.logits(sparse))
      #expect(try Self.steps(output, keepsCompressed: true) == Self.steps(sparse))
      let check = try AscendCheck(path: output, ranks: ranks).run(on: oneThread)
      #expect(check.faults == [])
      #expect(check.compressedBlocks > 0)
    }
  }

  /// A launcher's processes must not write the same parts all by themselves.
  @Test func oneOfSeveralProcessesJoinsThemOrSaysWhyNot() throws {
    #expect(try ProcessGroup.join([:]).count == 1)
    #expect(try ProcessGroup.join(["OMPI_COMM_WORLD_SIZE": "1"]).isFirst)
    #if !MPI
      #expect(throws: ProcessGroupError.builtWithout(2)) {
        try ProcessGroup.join(["OMPI_COMM_WORLD_SIZE": "2"])
      }
    #endif
    #expect(ProcessGroup.alone.sum([1, 2.5]) == [1, 2.5])
    #expect(throws: CancellationError.self) {
      try ProcessGroup.alone.agree { throw CancellationError() }
    }
  }

  @Test func keptLayersNameTheRanksThatWouldDo() throws {
    try inTemporaryFolder { folder in
      let sparse = try Self.write(to: folder)
      let compression = try AscendCompression(
        Checkpoint(path: sparse), ranks: 4, overlapsTail: false)
      // 128 query outputs are 32 on each of 4 ranks; gate has 128 there.
      let query = compression.kept.first { $0.path == "model.layers.0.self_attn.q_proj" }
      #expect(query?.outputs == 32)
      #expect(query?.fitting == [1])
      #expect(!compression.kept.contains { $0.path.hasSuffix("gate_proj") })
      #expect(throws: ModelError.self) {
        try AscendCompression(Checkpoint(path: sparse), ranks: 3, overlapsTail: false)
      }
    }
  }

  @Test func aDamagedBlockIsNamed() throws {
    try inTemporaryFolder { folder in
      let sparse = try Self.write(to: folder)
      let output = folder.appendingPathComponent("out").path
      _ = try AscendCompression(Checkpoint(path: sparse), ranks: 1, overlapsTail: false)
        .run(to: output, on: oneThread) { _, _ in }
      let path = output + "/part0-of-1/quant_model_weight_w8a8sc.safetensors"
      let name = "model.layers.1.mlp.up_proj.weight"
      let range = try #require(try SafetensorsFile(path: path).entry(name)).range
      var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
      bytes[range.lowerBound + 4] ^= 1
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      do {
        _ = try LoadedModel(path: output)
        Issue.record("it was read")
      } catch { #expect("\(error)".contains(name) && "\(error)".contains("block 0")) }
      let check = try AscendCheck(path: output, ranks: 1).run(on: oneThread)
      #expect(check.faults.count == 1)
    }
  }
}
