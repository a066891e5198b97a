import Foundation
import Testing
import TinyModel

@Suite struct InspectTests {
  /// Sites, folds and names of a shape in words; blocks that are alike once, and one expert for all.
  @Test func shapeIsToldPartByPart() throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("inspect-" + UUID().uuidString).path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FamilyFixture.models(of: ["qwen2_moe"])[0].write(in: folder)
    let outcome = try nibble("inspect", folder, "--shape")
    #expect(outcome.status == 0)
    for line in [
      "experts      4 in 3 blocks, 3 a token and one for all",
      "blocks 0...2 (model.layers.N), branches in order",
      "    mlp.gate [4, 24] router, stays float",
      "      mlp.experts.0.down_proj [24, 20] down",
      "  site feedForward, 24 channels, enters mlp.experts.0.gate_proj and 9 more; factors go into "
        + "post_attention_layernorm",
      "  site shared.down, 28 channels, enters mlp.shared_expert.down_proj; factors go into rows of "
        + "mlp.shared_expert.up_proj, up",
    ] {
      #expect(outcome.output.contains(line + "\n"), "\(line)")
    }
    #expect(!outcome.output.contains("experts.1."))
  }
}
