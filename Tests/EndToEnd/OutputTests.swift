import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

/// What is written, where, and what is never written over.
@Suite struct OutputTests {
  private func ids(_ path: String) throws {
    let layout = try SafetensorsLayout([
      SafetensorsLayout.Tensor(name: "ids", dtype: .i32, shape: [3])
    ])
    let writer = try SafetensorsWriter(layout: layout, path: path)
    try writer.append(Bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]), of: "ids")
    try writer.finish()
  }

  @Test func logitsNeverReplaceAFile() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      try ids(folder + "/ids")
      let before = try files(source)
      for taken in [source + "/model.safetensors", source + "/config.json", folder + "/ids"] {
        let outcome = try nibble("logits", source, "--ids", folder + "/ids", "-o", taken)
        #expect(outcome.status == 73 && outcome.errors.contains("exists"), "\(outcome)")
      }
      #expect(try files(source) == before)
      let output = folder + "/logits"
      #expect(try nibble("logits", source, "--ids", folder + "/ids", "-o", output).status == 0)
      #expect(try SafetensorsFile(path: output).entry("logits")?.shape == [3, 256])
      // Ids that the model lacks leave nothing behind.
      let layout = try SafetensorsLayout([
        SafetensorsLayout.Tensor(name: "ids", dtype: .i32, shape: [1])
      ])
      let writer = try SafetensorsWriter(layout: layout, path: folder + "/bad")
      try writer.append(Bytes([0, 0, 1, 0]), of: "ids")
      try writer.finish()
      let bad = try nibble("logits", source, "--ids", folder + "/bad", "-o", folder + "/none")
      #expect(bad.status == 65, "\(bad)")
      #expect(!exists(folder + "/none") && !exists(folder + "/none.nibble-partial"))
    }
  }

  @Test func whatIsQuantizedIsASourceOnlyWhenAsked() throws {
    try inTemporaryFolder { folder in
      let (source, first, again) = (folder + "/source", folder + "/first", folder + "/again")
      try SmallModel.write(source)
      let bounds = Array(SmallModel.short.dropFirst(2))
      let options = ["--recipe", "w4a16", "--group", "32", "--format", "mlx"]
      let made = try Call(["quantize", source, "-o", first] + options + bounds).wait()
      #expect(made.status == 0, "\(made)")
      let refused = try Call(["quantize", first, "-o", again] + SmallModel.short).wait()
      #expect(refused.status == 65 && refused.errors.contains("--requantize"), "\(refused)")
      #expect(!exists(again))
      let taken = try SmallModel.quantize(first, again, "--requantize").wait()
      #expect(taken.status == 0, "\(taken)")
      let checked = try nibble("check", again, "--for", "vllm")
      #expect(!checked.output.contains("SET"), "\(checked)")
    }
  }

  @Test func aSourceThatShrinksWhileItIsReadIsSaid() throws {
    try inTemporaryFolder { folder in
      let (source, text) = (folder + "/source", folder + "/text")
      try SmallModel.write(source, config: ["max_position_embeddings": 200_000])
      try Data().write(to: URL(fileURLWithPath: text))
      let call = try Call(
        ["run", source, "One", "--raw", "--max-tokens", "90000", "--context", "100000"],
        output: text)
      for _ in 0..<3000 where try Data(contentsOf: URL(fileURLWithPath: text)).isEmpty {
        usleep(10_000)
      }
      #expect(call.isRunning)
      #expect(unsafe truncate(source + "/model.safetensors", 1000) == 0)
      let outcome = try call.wait()
      #expect(outcome.status == 65 && outcome.signal == nil, "\(outcome)")
      #expect(outcome.errors.contains("model.safetensors changed while it was read"))
    }
  }

  @Test func linksAreResolvedBeforeTheWork() throws {
    try inTemporaryFolder { folder in
      let (source, link) = (folder + "/source", folder + "/link")
      try SmallModel.write(source)
      for target in [folder + "/missing", folder + "/empty"] {
        try? FileManager.default.removeItem(atPath: link)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: target)
        if target.hasSuffix("empty") {
          try FileManager.default.createDirectory(
            atPath: target, withIntermediateDirectories: false)
        }
        let outcome = try SmallModel.quantize(source, link).wait()
        #expect(outcome.status == 0, "\(outcome)")
        #expect(exists(target + "/model.safetensors") && exists(link + "/model.safetensors"))
      }
    }
  }

  /// Nothing is worth starting when the output cannot be written, or a file beside the weights not read.
  @Test func outputAndCompanionsAreLookedAtFirst() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      let arguments = ["--keep-float", "20%", "--sensitivity-windows", "1"] + SmallModel.short
      let taken = try Call(["quantize", source, "-o", source] + arguments).wait()
      #expect(taken.status == 73 && !taken.errors.contains("measured"), "\(taken)")
      let inside = try nibble("compress", source, "-o", source + "/x")
      #expect(inside.status != 0 && !exists(source + "/x"), "\(inside)")
      let link = source + "/NOTICE"
      try FileManager.default.createSymbolicLink(
        atPath: link, withDestinationPath: folder + "/nowhere")
      let dangling = try Call(["quantize", source, "-o", folder + "/out"] + arguments).wait()
      #expect(dangling.status == 66 && dangling.errors.contains("NOTICE"), "\(dangling)")
      #expect(!dangling.errors.contains("measured") && !exists(folder + "/out.nibble-partial"))
      try FileManager.default.removeItem(atPath: link)
      let useless = try Call(
        ["quantize", source, "-o", folder + "/out", "--calibrate", "self"] + SmallModel.short
      ).wait()
      #expect(useless.status == 64 && useless.errors.contains("learns nothing"), "\(useless)")
    }
  }

  @Test func closedDescriptorsNeverReceiveTheModel() throws {
    try inTemporaryFolder { folder in
      let (source, whole, output) = (folder + "/source", folder + "/whole", folder + "/out")
      try SmallModel.write(source)
      #expect(try SmallModel.quantize(source, whole).wait().status == 0)
      let command = try Call.executable().path
      let words = [command, "quantize", source, "-o", output] + SmallModel.short
      let shell = Process()
      shell.executableURL = URL(fileURLWithPath: "/bin/sh")
      shell.arguments = ["-c", words.joined(separator: " ") + " 0<&- 1>&- 2>&-"]
      try shell.run()
      shell.waitUntilExit()
      #expect(shell.terminationStatus == 0)
      #expect(try files(output) == files(whole))
    }
  }

  @Test func changedBytesAreFound() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      #expect(try SmallModel.quantize(source, output).wait().status == 0)
      let report = try Checkpoint.json(output + "/nibble_report.json")
      let listed = try #require(report["files"]?.object).map(\.0).sorted()
      let there = try FileManager.default.contentsOfDirectory(atPath: output)
      #expect(listed == there.filter { $0 != "nibble_report.json" }.sorted())
      #expect(try nibble("check", output).status == 0)
      let weights = output + "/model.safetensors"
      var bytes = try Data(contentsOf: URL(fileURLWithPath: weights))
      bytes[bytes.count - 5] ^= 1
      try bytes.write(to: URL(fileURLWithPath: weights))
      let found = try nibble("check", output)
      #expect(found.status == 65 && found.output.contains("model.safetensors"), "\(found)")
      try FileManager.default.removeItem(atPath: output + "/tokenizer.json")
      #expect(try nibble("check", output).output.contains("tokenizer.json: it is missing"))
      #expect(try nibble("check", source).status == 65)
    }
  }

  @Test func aRefusedRunDoesNotBlockTheNext() throws {
    try inTemporaryFolder { folder in
      let (source, output) = (folder + "/source", folder + "/out")
      try SmallModel.write(source)
      let weights = URL(fileURLWithPath: source + "/model.safetensors")
      let good = try Data(contentsOf: weights)
      var model = TinyModel()
      (model.blocks, model.vocabulary) = (2, 256)
      try model.write(to: URL(fileURLWithPath: source)) { name, values in
        if name == "model.layers.0.mlp.up_proj.weight" { values[7] = .nan }
      }
      #expect(try SmallModel.quantize(source, output).wait().status == 65)
      try good.write(to: weights)
      let next = try SmallModel.quantize(
        source, output, recipe: ["--recipe", "w8a16", "--max-kl", "10", "--verdict-window", "32"]
      ).wait()
      #expect(next.status == 0, "\(next)")
    }
  }

  @Test func aCompressionThatWasKilledContinuesToTheSameBytes() throws {
    try inTemporaryFolder { folder in
      var model = TinyModel()
      (model.blocks, model.intermediate, model.vocabulary) = (24, 1024, 256)
      (model.heads, model.keyHeads) = (8, 4)
      let (source, sparse) = (folder + "/source", folder + "/sparse")
      try model.write(to: URL(fileURLWithPath: source))
      try Data(ByteTokenizer.json.text().utf8).write(
        to: URL(fileURLWithPath: source + "/tokenizer.json"))
      let made = try Call([
        "quantize", source, "-o", sparse, "--recipe", "w8a8s", "--verdict-window", "16",
        "--samples", "1", "--sample-length", "16", "--max-kl", "99",
      ]).wait()
      #expect(made.status == 0, "\(made)")
      func compress(_ output: String) throws -> Call {
        try Call(["compress", sparse, "--tp", "4", "--overlap-tail", "-o", folder + output])
      }
      #expect(try compress("/whole").wait().status == 0)
      var kills = 0
      let partial = folder + "/out.nibble-partial"
      for rank in 1...3 {
        let call = try compress("/out")
        let next = String(format: "part%d-of-4", rank)
        while call.isRunning, !exists("\(partial)/\(next)") { usleep(200) }
        call.send(SIGKILL)
        kills += try call.wait().signal == SIGKILL ? 1 : 0
      }
      #expect(kills > 0 && !exists(folder + "/out"))
      // Another setting does not continue it.
      let other = try Call(["compress", sparse, "--tp", "2", "-o", folder + "/out"]).wait()
      #expect(other.status == 73 && other.errors.contains("unfinished"), "\(other)")
      let last = try compress("/out").wait()
      #expect(last.status == 0, "\(last)")
      for name in try FileManager.default.subpathsOfDirectory(atPath: folder + "/whole") {
        #expect(
          FileManager.default.contentsEqual(
            atPath: folder + "/whole/" + name, andPath: folder + "/out/" + name), "\(name)")
      }
      #expect(!exists(partial))
      #expect(try nibble("check", folder + "/out").status == 0)
    }
  }
}
