import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@testable import NibbleEngines
@testable import NibbleQuantize

@Suite struct TuneTests {
  private func windows(_ vocabulary: Int = 128) -> TuneRun.Windows {
    func windows(_ count: Int, _ seed: UInt64) -> [[Int]] {
      (0..<count).map { someTokens(48, below: vocabulary, seed: seed + UInt64($0)) }
    }
    var found = TuneRun.Windows()
    (found.calibration, found.other, found.heldOut) = (
      windows(20, 100), windows(4, 200), windows(4, 300)
    )
    return found
  }

  private func tune(steps: Int = 24) -> Tune {
    var tune = Tune()
    (tune.steps, tune.tokens, tune.rate) = (steps, 192, 0.01)
    return tune
  }

  /// Writes a source and a model that is quantized from it.
  private func quantized(
    _ folder: String, _ recipe: Recipe, _ exporter: any Exporter = CompressedTensors()
  ) throws {
    try TinyModel().write(in: folder + "/source", config: [:])
    let checkpoint = try Checkpoint(path: folder + "/source")
    let plan = try Plan(
      checkpoint, recipe: recipe, exporter: exporter, windows: WindowSizes())
    _ = try QuantizeRun(
      checkpoint, plan, windows: QuantizeRun.Windows(), files: CompanionFiles(of: checkpoint),
      on: Compute(threads: 1, precision: .f32)
    ).run(to: folder + "/quantized") { _ in }
  }

  /// Multiplies scales by up to 12 % more or less, which tuning can undo.
  private func damageScales(_ folder: String) throws {
    let path = folder + "/quantized/model.safetensors"
    let file = try SafetensorsFile(path: path)
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    var random = SplitMix64(state: 9)
    for entry in file.entries where entry.name.hasSuffix("scale") || entry.name.hasSuffix("scales")
    {
      let format = try #require(entry.dtype.floatFormat)
      let values = format.decode(file.bytes(of: entry.name)!).map {
        $0 * Float(0.88 + 0.24 * random.nextUnit())
      }
      bytes.replaceSubrange(entry.range, with: format.encode(values.span))
    }
    try bytes.write(to: URL(fileURLWithPath: path))
  }

  private func run(
    _ folder: String, to output: String = "out", _ settings: Tune, _ windows: TuneRun.Windows,
    threads: Int = 1, stopAfter: Int? = nil
  ) throws -> TuneRun.Report {
    let compute = Compute(threads: threads, precision: .f32)
    let run = TuneRun(
      try LoadedModel(path: folder + "/quantized"),
      against: try LoadedModel(path: folder + "/source"), windows: windows, settings: settings,
      on: compute)
    var checks = 0
    return try run.run(
      to: "\(folder)/\(output)", bound: nil, progress: { _ in },
      shouldStop: {
        checks += 1
        return checks == stopAfter
      })
  }

  /// Every format that is read keeps its codes, its config and its other tensors; what is written is
  /// what was measured.
  @Test(arguments: ["w4a16", "w8a8", "awq"])
  func theDivergenceFallsWhileCodesStay(_ name: String) throws {
    try inTemporaryFolder { folder in
      let recipe =
        name == "w8a8" ? Recipe.w8a8 : try .preset("w4a16", group: 32, symmetric: false)
      try quantized(folder, recipe, name == "awq" ? AWQ() : CompressedTensors())
      try damageScales(folder)
      let windows = windows()
      let report = try run(folder, tune(), windows)
      let (before, after) = (try #require(report.before), try #require(report.after))
      #expect(after.kl < 0.7 * before.kl, "\(before.kl) \(after.kl)")
      #expect(report.step > 0 && !report.hasDiverged)
      let old = try SafetensorsFile(path: folder + "/quantized/model.safetensors")
      let new = try SafetensorsFile(path: folder + "/out/model.safetensors")
      #expect(old.entries == new.entries)
      let changed = old.entries.filter {
        old.bytes(of: $0.name)!.array != new.bytes(of: $0.name)!.array
      }
      #expect(changed.count > 20)
      for entry in changed {
        let isScale = entry.name.hasSuffix("scale") || entry.name.hasSuffix(".scales")
        #expect(isScale || entry.name.hasSuffix("norm.weight"), "\(entry.name)")
      }
      var (left, right) = (try files(folder + "/quantized"), try files(folder + "/out"))
      for name in ["model.safetensors", CompanionFiles.reportName] {
        left[name] = nil
        right[name] = nil
      }
      #expect(left == right)
      let data = try Data(contentsOf: URL(fileURLWithPath: folder + "/out/nibble_report.json"))
      let json = try JSON(parsing: Array(data))
      #expect(FileChecksums(report: json)?.faults(in: folder + "/out") == [])
      #expect(json["verdict"]?["kl"]?.double == after.kl && json["recipe"] != nil)
      #expect(json["tune"]?["checks"]?.array?.count == 4)
      var part = EvaluationWindows()
      (part.length, part.count) = (48, 4)
      let measured = try Evaluation(
        LoadedModel(path: folder + "/out").decoder,
        against: LoadedModel(path: folder + "/source").decoder,
        tokens: Array(windows.heldOut.joined()), windows: part,
        on: Compute(threads: 1, precision: .f32)
      ) { _, _, _ in }
      #expect(abs(try #require(measured.comparison).kl - after.kl) < 1e-5 * after.kl + 1e-9)
    }
  }

  /// The gradient of the whole model is what central differences find.
  @Test(arguments: ["llama", "gemma2", "gemma3", "opt", "granite", "phi3", "cohere", "olmo2"])
  func gradientsAreThoseOfTheModel(_ family: String) throws {
    try inTemporaryFolder { folder in
      let fixture = FamilyFixture.models(of: [family])[0]
      let source = folder + "/source"
      try fixture.write(in: source)
      var recipe = Recipe.w8a16
      recipe.scheme.weights = WeightScheme(
        format: .int(bits: 4, symmetric: true), granularity: .group(4))
      let compute = Compute(threads: 2, precision: .f32)
      let vocabulary = fixture.logits.count / fixture.tokens.count
      let model = try LoadedModel(path: source, rounding: recipe, on: compute).decoder
      let base = try LoadedModel(path: source).decoder
      var tune = Tune()
      (tune.steps, tune.tokens) = (1, 12)
      let text = try TuneText(
        calibration: (0..<3).map { someTokens(12, below: vocabulary, seed: 40 + UInt64($0)) },
        other: [], heldOut: [], for: tune, of: model, source: base, in: folder,
        on: compute)
      // Stored without rounding, so that small changes count.
      var vectors: [TunedVector] = []
      for (index, block) in model.blocks.enumerated() {
        for linear in block.shape.linears {
          guard let codes = block.linears[linear.id]?.weight.codes else { continue }
          vectors.append(
            TunedVector(.block(index, .scales(linear.id)), values: codes.scales, format: .f32))
        }
        for (path, norm) in block.norms.sorted(by: { $0.key < $1.key }) where norm.shape.hasWeight {
          vectors.append(
            TunedVector(.block(index, .norm(path)), values: norm.weight, format: .f32))
        }
      }
      #expect(vectors.count > 8)
      if let norm = model.ends.finalNorm {
        vectors.append(TunedVector(.finalNorm, values: norm.weight, format: .f32))
      }
      var tuning = Tuning(
        model, vectors, source: OutputHead(base.ends, on: compute),
        try ForwardPass(model.shape, positions: 12, on: compute))
      let windows = try text.windows(text.batch(0, tokens: 12))
      let (loss, gradients) = tuning.gradients(on: windows, temperature: 1)
      func measured() -> Double {
        let found = tuning.divergences(on: windows)
        return found.reduce(0, +) / Double(found.count)
      }
      #expect(abs(measured() - loss) < 1e-4 * loss, "\(measured()) \(loss)")
      var random = SplitMix64(state: 5)
      for kind in ["scales", "norms"] {
        // Along the gradient's signs, so that terms do not cancel.
        var direction: [Float] = []
        for vector in vectors {
          let isScale =
            if case .block(_, .scales) = vector.place { true } else { false }
          direction += vector.values.map { _ in
            isScale == (kind == "scales") ? Float(0.5 + random.nextUnit()) : 0
          }
        }
        for index in direction.indices where gradients[index] < 0 { direction[index] *= -1 }
        let wanted = zip(direction, gradients).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        let step: Float = 1e-3
        var ends: [Double] = []
        for sign in [step, -step] {
          tuning.replaceFactors(by: direction.map { 1 + sign * $0 })
          ends.append(measured())
        }
        let found = (ends[0] - ends[1]) / Double(2 * step)
        #expect(abs(found - wanted) < 0.01 * wanted, "\(kind): \(found) \(wanted)")
        tuning.replaceFactors(by: direction.map { _ in 1 })
      }
    }
  }

  @Test func threadsAndAStopChangeNoByte() throws {
    try inTemporaryFolder { folder in
      try quantized(folder, .preset("w4a16", group: 32))
      let windows = windows()
      _ = try run(folder, tune(), windows)
      _ = try run(folder, to: "threads", tune(), windows, threads: 3)
      #expect(throws: QuantizeError.interrupted(folder + "/stopped.nibble-partial")) {
        _ = try run(folder, to: "stopped", tune(), windows, stopAfter: 2)
      }
      _ = try run(folder, to: "stopped", tune(), windows)
      let wanted = try files(folder + "/out")
      #expect(try files(folder + "/threads") == wanted)
      #expect(try files(folder + "/stopped") == wanted)
    }
  }

  /// A damaged state is not trusted.
  @Test func aDamagedStateStartsOver() throws {
    try inTemporaryFolder { folder in
      try quantized(folder, .preset("w4a16", group: 32))
      let windows = windows()
      _ = try run(folder, tune(), windows)
      _ = try? run(folder, to: "stopped", tune(), windows, stopAfter: 1)
      let path = folder + "/stopped.nibble-partial/tune-0.bin"
      var state = try Data(contentsOf: URL(fileURLWithPath: path))
      state[100] ^= 1
      try state.write(to: URL(fileURLWithPath: path))
      _ = try run(folder, to: "stopped", tune(), windows)
      #expect(try files(folder + "/stopped") == files(folder + "/out"))
    }
  }

  @Test func nothingIsWrittenWhenNothingIsGained() throws {
    try inTemporaryFolder { folder in
      try quantized(folder, .preset("w4a16", group: 32))
      var wild = tune(steps: 8)
      wild.rate = 0.5
      #expect {
        _ = try run(folder, wild, windows())
      } throws: {
        if case QuantizeError.nothingGained = $0 { true } else { false }
      }
      #expect(!exists(folder + "/out"))
      #expect {
        var few = windows()
        few.calibration = [few.calibration[0]]
        _ = try run(folder, to: "few", tune(), few)
      } throws: { "\($0)".contains("two windows") }
    }
  }

  @Test func whatCannotBeTunedIsRefused() throws {
    try inTemporaryFolder { folder in
      func fault(_ model: String, against source: String) -> String {
        do {
          _ = try TuneRun(
            LoadedModel(path: folder + "/" + model),
            against: LoadedModel(path: folder + "/" + source), windows: windows(),
            settings: tune(), on: Compute(threads: 1, precision: .f32)
          ).run(to: folder + "/out", bound: nil) { _ in }
          return ""
        } catch { return "\(error)" }
      }
      try quantized(folder, .mxfp4)
      #expect(fault("quantized", against: "source").contains("are codes"))
      #expect(fault("source", against: "source").contains("not float ones"))
      #expect(fault("quantized", against: "quantized").contains("quantized itself"))
      var other = TinyModel()
      other.blocks = 2
      try other.write(in: folder + "/other", config: [:])
      #expect(fault("quantized", against: "other").contains("is not the source"))
      #expect(!exists(folder + "/out") && !exists(folder + "/out.nibble-partial"))
    }
  }
}
