import Foundation
import Testing
import TinyModel

/// `nibble check --for` of anyone's checkpoint.
@Suite struct CheckTests {
  @Test func findingsAreLinesAndExitStatuses() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/model")
      let sound = try nibble("check", folder + "/model", "--for", "vllm@0.10")
      #expect(sound.status == 0 && sound.output.contains("sound"), "\(sound)")
      let config = folder + "/model/config.json"
      let text = try String(contentsOfFile: config, encoding: .utf8)
      let wrong = text.replacingOccurrences(
        of: "\"model_type\"",
        with: "\"quantization_config\": {\"quant_method\": \"gguf\"}, \"model_type\"")
      try Data(wrong.utf8).write(to: URL(fileURLWithPath: config))
      let refused = try nibble("check", folder + "/model", "--for", "vllm")
      #expect(refused.status == 65, "\(refused)")
      #expect(refused.output.contains("error: V0 ENG: config.json: quantization_config"))
      let json = try nibble("check", folder + "/model", "--for", "sglang", "--json")
      #expect(json.status == 65 && json.output.contains("\"findings\":[{\"level\":\"error\""))
    }
  }

  @Test func engineAndVersionMustBeKnown() throws {
    for engine in ["tensorrt", "vllm@", "vllm@0.1", "vllm@99", "vllm@0.10@1", ""] {
      #expect(try nibble("check", "/tmp", "--for", engine).status == 64, "\(engine)")
    }
    #expect(try nibble("check", "/of/no/model", "--for", "vllm").status == 66)
  }
}
