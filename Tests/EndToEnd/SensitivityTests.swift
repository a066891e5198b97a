import Foundation
import NibbleFormats
import NibbleModel
import Testing
import TinyModel

@Suite struct SensitivityTests {
  private let short = ["--sensitivity-windows", "1", "--sensitivity-length", "24"]

  @Test func theCostliestLayersAreNamedAndKeptFloat() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      let found = try Call(["sensitivity", source, "--recipe", "w8a8", "--json"] + short).wait()
      #expect(found.status == 0, "\(found)")
      let groups = try #require(try found.json()["groups"]?.array)
      #expect(groups.count == 8)
      let kl = groups.compactMap { $0["kl"]?.double }
      #expect(kl.count == 8 && kl == kl.sorted(by: >))
      let text = try Call(["sensitivity", source, "--recipe", "w8a8", "--top", "2"] + short).wait()
      #expect(text.output.contains("and 6 more") && text.output.contains("--keep-float"))

      let run = try Call(
        ["quantize", source, "-o", output, "--keep-float", "20%"] + SmallModel.short + short
      ).wait()
      #expect(run.status == 0, "\(run)")
      let kept = try Checkpoint.json(output + "/nibble_report.json")["kept_float"]?.array ?? []
      let byRecipe = kept.filter { $0["reason"] == "the recipe keeps it float" }
      #expect(!byRecipe.isEmpty)
      for layer in byRecipe {
        let path = layer["path"]?.string ?? ""
        #expect(run.errors.contains("stays float: ") && path.hasPrefix("model.layers."))
      }
      #expect(try Checkpoint.json(output + "/nibble_sensitivity.json")["groups"]?.array?.count == 8)

      let report = try nibble("report", output, "--steps")
      #expect(report.status == 0 && report.output.contains("recipe w8a8, compressed-tensors"))
      #expect(report.output.contains("KL divergence") && report.output.contains("dB"))
      #expect(try nibble("report", output, "--json").json()["recipe"] == "w8a8")
    }
  }

  /// States of 390 kB per block would show.
  @Test func memoryDoesNotGrowWithTheNumberOfBlocks() throws {
    try inTemporaryFolder { folder in
      var peaks: [Int] = []
      for blocks in [22, 44] {
        let source = folder + "/\(blocks)"
        try SmallModel.write(source, blocks: blocks)
        let found = try Call([
          "sensitivity", source, "--recipe", "w8a16", "--json", "--threads", "1",
          "--sensitivity-windows", "6", "--sensitivity-length", "256",
        ]).wait()
        #expect(found.status == 0, "\(found)")
        peaks.append(try #require(try found.json()["peak_rss_bytes"]?.int))
      }
      // 22 blocks more: their entries of the model's description, no states.
      #expect(peaks[1] - peaks[0] < 5 << 20, "\(peaks)")
    }
  }

  @Test func whatCannotBeReadOrKeptIsSaid() throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      #expect(try nibble("report", folder + "/source").status == 66)
      try Data("{}".utf8).write(to: URL(fileURLWithPath: folder + "/source/nibble_report.json"))
      #expect(try nibble("report", folder + "/source").status == 65)
      for bad in ["5", "101%", "-1%", "some"] {
        let outcome = try Call(
          ["quantize", folder + "/source", "-o", folder + "/out", "--keep-float=\(bad)"]
            + SmallModel.short
        ).wait()
        #expect(outcome.status == 64, "\(bad): \(outcome)")
      }
      let ranks = try Call(
        ["quantize", folder + "/source", "-o", folder + "/out", "--kv-ranks", "2"]
          + SmallModel.short
      ).wait()
      #expect(ranks.status == 64 && ranks.errors.contains("--kv"))
    }
  }

  @Test func scalesOfACacheAreWritten() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      let run = try Call(
        ["quantize", source, "-o", output, "--kv", "fp8", "--kv-ranks", "2"] + SmallModel.short
          + ["--samples", "2", "--sample-length", "24"]
      ).wait()
      #expect(run.status == 0, "\(run)")
      let config = try Checkpoint.json(output + "/config.json")
      let scheme = try #require(config["quantization_config"]?["kv_cache_scheme"])
      #expect(scheme["type"] == "float" && scheme["num_bits"] == 8)
      #expect(
        try Checkpoint.json(output + "/kv_cache_scales.json")["kv_cache"]?["scaling_factor"]?
          .object?
          .count == 2)
      let plan = try Call(["plan", source, "--recipe", "w8a8", "--kv", "int4"]).wait()
      #expect(plan.status == 0 && plan.output.contains("scales for int4"))
    }
  }
}
