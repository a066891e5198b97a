import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@Suite struct JSONOutputTests {
  private func keys(_ json: JSON) -> Set<String> { Set(json.object?.keys ?? []) }

  @Test func quantizeEndsWithOneObject() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      let outcome = try SmallModel.quantize(source, output, "--json").wait()
      #expect(outcome.status == 0, "\(outcome)")
      let json = try outcome.json()
      #expect(
        keys(json).isSuperset(of: ["output", "bytes", "seconds", "peak_rss_bytes", "verdict"]))
      #expect(json["output"] == .string(output))
      let size = try files(output)["model.safetensors"]?.count
      #expect(json["bytes"]?.int == size)
      #expect((json["peak_rss_bytes"]?.int ?? 0) > 1 << 20)
      #expect((json["seconds"]?.double ?? -1) > 0)
      let verdict = try #require(json["verdict"])
      #expect(
        keys(verdict).isSuperset(of: [
          "kl", "top1", "perplexity", "source_perplexity", "definition",
        ]))
      #expect((verdict["kl"]?.double ?? -1) > 0)
      let detail = try #require(verdict["divergence"])
      #expect((detail["kl_median"]?.double ?? -1) > 0 && detail["windows"]?.int == 2)
      #expect(detail["by_position"]?.array?.map { $0["name"] } == ["0-63"])
      let kinds = detail["by_kind"]?.array ?? []
      #expect(kinds.reduce(0) { $0 + ($1["tokens"]?.int ?? 0) } == verdict["tokens"]?.int)
      // The same numbers in the report beside the weights.
      #expect(try Checkpoint.json(output + "/nibble_report.json")["verdict"] == verdict)
    }
  }

  @Test func evalPrintsOneObject() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      #expect(try SmallModel.quantize(source, output).wait().status == 0)
      let text = folder + "/text.txt"
      try write(String(repeating: "All that glitters. ", count: 10), text)
      let alone = try nibble(
        "eval", output, "--text", text, "--window", "20", "--windows", "3", "--skip", "2", "--json",
        "--precision", "f32")
      #expect(alone.status == 0, "\(alone)")
      let json = try alone.json()
      #expect(
        keys(json).isSuperset(of: ["perplexity", "tokens", "windows", "skipped", "seconds"]))
      #expect(json["tokens"]?.int == 190 && json["windows"]?.int == 3 && json["skipped"]?.int == 2)
      #expect(json["kl"] == nil && json["scored_tokens"]?.int == 3 * 19)
      let against = try nibble(
        "eval", output, "--against", source, "--text", text, "--window", "20", "--windows", "3",
        "--skip", "2", "--json", "--precision", "f32")
      let other = try against.json()
      #expect(keys(other).isSuperset(of: ["kl", "top1", "base_perplexity"]))
      #expect(other["perplexity"] == json["perplexity"] && other["noise_floor"] == nil)
      #expect(keys(try #require(other["divergence"])).isSuperset(of: ["kl_p99", "kl_interval"]))
      let floor = try nibble(
        "eval", output, "--against", source, "--text", text, "--window", "20", "--noise-floor",
        "--json", "--precision", "f32"
      ).json()
      let noise = try #require(floor["noise_floor"])
      #expect((noise["kl"]?.double ?? -1) > 0 && noise["change"]?.string?.contains("bf16") == true)
      #expect(floor["kl"]?.double ?? 0 > noise["kl"]?.double ?? 1)
      let base = try nibble(
        "eval", source, "--text", text, "--window", "20", "--windows", "3", "--skip", "2", "--json",
        "--precision", "f32"
      ).json()
      #expect(other["base_perplexity"] == base["perplexity"])
      let llama = try nibble(
        "eval", source, "--text", text, "--window", "20", "--definition", "llama.cpp", "--json"
      ).json()
      #expect(llama["scored_tokens"]?.int == 9 * 9)
    }
  }

  @Test func theVerdictIsWhatEvalMeasuresOnTheSameWindows() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      let text = folder + "/text.txt"
      try write("The quick brown fox jumps over the lazy dog, twice.".prefix(48).description, text)
      let verdict = try #require(
        try SmallModel.quantize(
          source, output, "--json", "--verdict-text", text, "--precision", "f32",
          recipe: ["--recipe", "w8a8", "--verdict-windows", "3", "--verdict-window", "16"]
        ).wait().json()["verdict"])
      let eval = try nibble(
        "eval", output, "--against", source, "--text", text, "--window", "16", "--json",
        "--precision", "f32"
      ).json()
      for (a, b) in [
        ("kl", "kl"), ("top1", "top1"), ("perplexity", "perplexity"),
        ("source_perplexity", "base_perplexity"),
      ] {
        let (x, y) = (
          try #require(verdict[a]?.double as Double?), try #require(eval[b]?.double as Double?)
        )
        #expect(abs(x - y) <= 1e-4 * abs(y) + 1e-7, "\(a): \(x) and \(y)")
      }
    }
  }

  @Test func aDryRunSaysWhatPlanSaysAndWritesNothing() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      for more in [[], ["--json"], ["--quantize-head"], ["--memory", "1GB", "--json"]] {
        let arguments = ["--recipe", "w4a16", "--group", "32", "--asymmetric"] + more
        let plan = try Call(["plan", source] + arguments).wait()
        let dry = try Call(["quantize", source, "--dry-run", "-o", output] + arguments).wait()
        let bare = try Call(["quantize", source, "--dry-run"] + arguments).wait()
        #expect(plan.status == 0 && dry.status == 0 && bare.status == 0, "\(plan) \(dry)")
        #expect(plan.output == dry.output && plan.output == bare.output)
        #expect(!exists(output) && !exists(output + ".nibble-partial"))
      }
      let plan = try nibble("plan", source, "--recipe", "w8a8", "--json").json()
      #expect(
        keys(plan).isSuperset(of: ["bytes", "layers", "peak_memory_bytes", "refusals"]))
      #expect(plan["layers"]?.array?.count == 14)
      let outcome = try SmallModel.quantize(source, output, "--json").wait()
      #expect(try outcome.json()["bytes"] == plan["bytes"])
      let refused = try nibble("plan", source, "--recipe", "w4a16", "--json")
      #expect(refused.status == 64)
      #expect(try refused.json()["refusals"]?.array?.isEmpty == false)
    }
  }

  @Test func inspectAndTokenizePrintOneObject() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      let inspect = try nibble("inspect", source, "--json", "--tensors").json()
      #expect(inspect["family"] == "Llama" && inspect["quantization"] == .null)
      #expect(inspect["tensors"]?.array?.count == 2 * 9 + 3)
      try write("hé\n", folder + "/text.txt")
      let ids = try nibble("tokenize", source, "--text", folder + "/text.txt", "--json").json()
      #expect(ids["ids"] == [104, 195, 169, 10])
    }
  }
}

@Suite struct LogitsTests {
  static func writeIds(_ ids: [Int64], _ path: String) throws {
    let layout = try SafetensorsLayout([.init(name: "ids", dtype: .i64, shape: [ids.count])])
    let writer = try SafetensorsWriter(layout: layout, path: path)
    let bytes = ids.flatMap { id in (0..<8).map { UInt8(truncatingIfNeeded: id >> (8 * $0)) } }
    try writer.append(Bytes(bytes), of: "ids")
    try writer.finish()
  }

  @Test func logitsAreWrittenForEachToken() throws {
    try inTemporaryFolder { folder in
      let (source, ids, output) = (folder + "/source", folder + "/ids.safetensors", folder + "/l")
      try SmallModel.write(source)
      try Self.writeIds([72, 101, 72], ids)
      let outcome = try nibble("logits", source, "--ids", ids, "-o", output)
      #expect(outcome.status == 0, "\(outcome)")
      let file = try SafetensorsFile(path: output)
      let entry = try #require(file.entry("logits"))
      #expect(entry.shape == [3, 256] && entry.dtype == .f32)
      let values = FloatFormat.f32.decode(try #require(file.bytes(of: "logits")))
      let config = try Checkpoint(path: source).decoderShape()
      let decoder = try Decoder(config, from: Checkpoint(path: source))
      var session = try Session(decoder, capacity: 3, on: Compute(threads: 1, precision: .f32))
      for (row, token) in [72, 101, 72].enumerated() {
        let expected = try session.append([token])
        for (x, y) in zip(values[row * 256..<(row + 1) * 256], expected) {
          #expect(abs(x - y) < 1e-4)
        }
      }
    }
  }

  @Test(arguments: [[256], [-1], [Int64.max], [1, .min], []] as [[Int64]])
  func idsOutsideTheVocabularyAre65(_ ids: [Int64]) throws {
    try inTemporaryFolder { folder in
      try SmallModel.write(folder + "/source")
      try Self.writeIds(ids, folder + "/ids.safetensors")
      let outcome = try nibble(
        "logits", folder + "/source", "--ids", folder + "/ids.safetensors", "-o", folder + "/out")
      #expect(
        outcome.status == 65 && outcome.errors.contains("ids") || outcome.errors.contains("token"),
        "\(outcome)")
    }
  }
}
