import Foundation
import NibbleFormats
import Testing
import TinyModel

@Suite struct PyTorchTests {
  /// The same model with `pytorch_model.bin` in the place of safetensors.
  private func convert(_ source: String, to folder: String) throws {
    try FileManager.default.copyItem(atPath: source, toPath: folder)
    let weights = folder + "/model.safetensors"
    let file = TorchFile(try SafetensorsFile(path: weights))
    try Data(file.bytes).write(to: URL(fileURLWithPath: folder + "/pytorch_model.bin"))
    try FileManager.default.removeItem(atPath: weights)
  }

  @Test func aFolderWithPyTorchWeightsIsInspectedQuantizedAndRun() throws {
    try inTemporaryFolder { folder in
      let (source, pytorch) = (folder + "/source", folder + "/pytorch")
      try SmallModel.write(source)
      try convert(source, to: pytorch)
      func inspect(_ model: String) throws -> JSON {
        var object = try nibble("inspect", model, "--json").json()
        object.set("path", nil)
        return object
      }
      #expect(try inspect(pytorch) == inspect(source))
      let tensors = try nibble("inspect", pytorch, "--tensors")
      #expect(tensors.output.contains("model.embed_tokens.weight F16 [256, 64]"), "\(tensors)")

      for (model, output) in [(source, "/one"), (pytorch, "/two")] {
        let quantize = try SmallModel.quantize(model, folder + output).wait()
        #expect(quantize.status == 0, "\(quantize)")
      }
      let (one, two) = (try files(folder + "/one"), try files(folder + "/two"))
      #expect(one.keys == two.keys && one["model.safetensors"] == two["model.safetensors"])
      let texts = try [source, pytorch].map { model in
        try nibble("run", model, "Once", "--raw", "--max-tokens", "8").output
      }
      #expect(texts[0] == texts[1])
    }
  }

  @Test func aPickleThatAsksForMoreIsRefusedByName() throws {
    try inTemporaryFolder { folder in
      let (source, pytorch) = (folder + "/source", folder + "/pytorch")
      try SmallModel.write(source)
      try convert(source, to: pytorch)
      let hostile = TorchFile([], storages: [])
        .archive([0x80, 2] + Array("cposix\nsystem\n(X\u{2}\0\0\0idtR.".utf8))
      try Data(hostile.bytes).write(to: URL(fileURLWithPath: pytorch + "/pytorch_model.bin"))
      let outcome = try nibble("inspect", pytorch)
      #expect(outcome.status == 65 && outcome.errors.contains("posix system"), "\(outcome)")
    }
  }
}
