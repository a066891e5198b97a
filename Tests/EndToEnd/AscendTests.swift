import Foundation
import NibbleFormats
import Testing
import TinyModel

@Suite struct AscendTests {
  private func quantize(_ folder: String, _ options: [String]) throws -> Outcome {
    try Call(
      [
        "quantize", folder + "/source", "-o", folder + "/sparse", "--verdict-windows", "1",
        "--verdict-window", "32", "--max-kl", "10", "--samples", "2", "--sample-length", "32",
      ] + options
    ).wait()
  }

  @Test func theVendorsOneCommandIsOursAndCompresses() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      let made = try quantize(
        folder,
        [
          "--recipe", "w8a8s", "--act-method", "2", "--smooth", "--sigma", "--lowbit",
          "--co-sparse",
        ])
      #expect(made.status == 0, "\(made)")
      #expect(made.errors.contains("--lowbit overrides --co-sparse"))
      let parts = folder + "/parts"
      let compressed = try Call(
        ["compress", folder + "/sparse", "--tp", "2", "--overlap-tail", "-o", parts]
      ).wait()
      #expect(compressed.status == 0 && compressed.errors.contains("experimental"))
      let eval = { (model: String) in
        try Call(
          ["eval", model, "--text", "builtin", "--window", "64", "--windows", "2", "--json"]
        ).wait().json()["perplexity"]?.double
      }
      #expect(try eval(parts) == eval(folder + "/sparse"))
      let check = try Call(["check", parts, "--for", "ascend", "--tp", "2"]).wait()
      #expect(check.status == 0 && check.output.contains("sound"), "\(check)")
      let wrong = try Call(["check", parts, "--for", "ascend", "--tp", "1"]).wait()
      #expect(wrong.status == 65 && wrong.output.contains("2 parts for 1 ranks"))
      let again = try Call(["compress", parts, "-o", folder + "/again"]).wait()
      #expect(again.status == 65, "\(again)")
    }
  }

  @Test func smoothedNormsAreWrittenAsTheVendorsAndFusedModulesRun() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      let made = try quantize(
        folder, ["--recipe", "w8a8s", "--anti-method", "m4", "--shift", "--sigma", "--lowbit"])
      #expect(made.status == 0, "\(made)")
      let file = try SafetensorsFile(
        path: folder + "/sparse/quant_model_weight_w8a8s.safetensors")
      let norms = file.entries.map(\.name).filter {
        $0.hasPrefix("model.layers.0.input_layernorm.")
      }
      #expect(
        Set(norms.map { $0.split(separator: ".").suffix(2).joined(separator: ".") })
          == ["input_layernorm.weight", "input_layernorm.bias", "module.weight", "module.bias"])
      let parts = folder + "/parts"
      let compressed = try Call(
        ["compress", folder + "/sparse", "--fused", "--overlap-tail", "-o", parts]
      ).wait()
      #expect(compressed.status == 0, "\(compressed)")
      let eval = { (model: String) in
        try Call(
          ["eval", model, "--text", "builtin", "--window", "64", "--windows", "2", "--json"]
        ).wait().json()["perplexity"]?.double
      }
      #expect(try eval(parts) == eval(folder + "/sparse"))
      let check = try Call(["check", parts, "--for", "ascend"]).wait()
      #expect(check.status == 0 && check.output.contains("sound"), "\(check)")
    }
  }

  @Test func optionsThatMeanNothingAreRefused() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      for options in [
        ["--recipe", "w8a8", "--lowbit"], ["--recipe", "w8a8", "--act-method", "1"],
        ["--recipe", "w8a8s", "--lowbit", "--act-method", "3"],
        ["--recipe", "w8a8s", "--fraction", "2"], ["--recipe", "w8a8s", "--format", "awq"],
        ["--recipe", "w4a16", "--group", "32", "--for", "ascend"],
        ["--recipe", "w8a8-minmax", "--shift", "--for", "ascend"],
        ["--recipe", "w8a8-static", "--shift"], ["--recipe", "w8a8-static", "--anti-method", "m1"],
        ["--recipe", "w8a8-minmax", "--anti-method", "m3", "--for", "ascend"],
      ] {
        let outcome = try quantize(folder, options)
        #expect(outcome.status == 64, "\(options) \(outcome)")
      }
    }
  }
}
