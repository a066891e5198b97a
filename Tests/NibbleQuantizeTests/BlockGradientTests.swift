import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleQuantize

/// The gradients of whole blocks compared with those of transformers in double precision.
@Suite struct BlockGradientTests {
  private static let fixture = GradientFixture.blocks

  /// The case with the shared expert's gate held constant has no counterpart here.
  private static let cases = fixture.cases("cases").filter {
    $0.name != "qwen2_moe_frozen_shared"
  }

  @Test(arguments: cases)
  func gradientsAreThoseOfTransformers(_ c: GradientFixture.Case) throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("gradient-" + UUID().uuidString).path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let family = try #require(c.json["family"]?.string)
    let model = try #require(
      FamilyFixture.models(of: [family]).first { $0.name == c.json["model"]?.string })
    try model.write(in: folder)
    let checkpoint = try Checkpoint(path: folder)
    let shape = try checkpoint.decoderShape()
    let index = try #require(c.json["block"]?.int)
    let block = try Block(shape.blocks[index], from: checkpoint)
    #expect(BlockTape.fault(block.shape) == nil)
    let states = try #require(Self.fixture.rows(c, "states"))
    let wanted = try #require(Self.fixture.rows(c, "output"))
    let gradient = try #require(Self.fixture.rows(c, "g_output"))
    let width = shape.hidden
    // Not on one thread only: sums must not depend on it.
    var results: [[BlockParameter: FloatRows]] = []
    for threads in [1, 3] {
      let compute = Compute(threads: threads, precision: .f32)
      let pass = try ForwardPass(shape, positions: states.rows, on: compute)
      let parameters = Dictionary(
        uniqueKeysWithValues: block.learnable.map { ($0, block.value(of: $0, on: compute)!) })
      let run = pass.record(block, on: states.values, training: parameters, trainsStates: true)
      #expect(run.tape[run.output].difference(from: wanted) < 1e-5, "output")
      let gradients = run.gradients(FloatRows(gradient.values, columns: width))
      results.append(gradients.parameters)
      let ofStates = try #require(gradients.states)
      let theirStates = try #require(Self.fixture.rows(c, "g_states"))
      #expect(ofStates.difference(from: theirStates) < 1e-5, "states")
      for parameter in block.learnable {
        let name = "g/\(shape.blocks[index].path).\(parameter.name)"
        // Stacked experts have one tensor for all of them.
        guard let theirs = Self.fixture.rows(c, name) else { continue }
        let ours = try #require(gradients.parameters[parameter], "\(parameter)")
        #expect(ours.difference(from: theirs) < 1e-5, "\(parameter)")
      }
    }
    #expect(results[0] == results[1])
    let named = Set(block.learnable.map { "\(shape.blocks[index].path).\($0.name)" })
    let compared = Self.fixture.names(c, "g/").filter { named.contains($0) }
    #expect(compared.count >= 6, "of \(Self.fixture.names(c, "g/"))")
  }
}
