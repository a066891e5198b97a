import Foundation
import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Runs a plan, one block after the other, with a journal. Renames the output into place at the
/// end.
///
/// The same plan, source and windows give the same bytes for any number of threads, and also after
/// a killed run is resumed.
public struct QuantizeRun {
  /// The windows of token ids that run through the blocks.
  public struct Windows: Sendable {
    /// Windows that the steps learn from. May be empty if the recipe needs no calibration; the
    /// running error is then also measured on them.
    public var calibration: [[Int]] = []
    /// Held-out windows for the verdict. Must not be part of the calibration text.
    public var heldOut: [[Int]] = []
    /// The kinds of text of the held-out windows; nil when unknown.
    public var heldOutKinds: TextKinds?

    public init() {}

    public var sizes: WindowSizes {
      WindowSizes(calibration: calibration.map(\.count), heldOut: heldOut.map(\.count))
    }
  }

  /// Progress report after each unit.
  public struct Progress: Sendable {
    public var unit: String
    public var done: Int
    public var total: Int
    /// Relative error of the quantized stream's hidden states.
    public var runningError: Double?
    /// Whether an earlier run finished this unit.
    public var resumed: Bool
  }

  /// Result of a run.
  public struct Report: Sendable {
    public var output: String
    public var bytes: Int
    public var layers: [LayerReport]
    /// Nil if Nibble cannot run the model's family.
    public var verdict: Verdict?
    /// Number of calibration tokens per expert; nil if not counted.
    public var experts: ExpertCoverage?
    public var resumedUnits: Int
    /// Time spent running both models for the running error and the verdict.
    public var measuring: Duration
  }

  let checkpoint: Checkpoint
  let plan: Plan
  let windows: Windows
  /// Statistics of an earlier calibration; nil if this run collects its own.
  let statistics: StatisticsFile?
  let compute: Compute
  /// The model's files besides the weights, such as the config and the tokenizer.
  let files: CompanionFiles
  /// Minimum time between two copies of the hidden states to disk: the work that a kill may lose.
  let spillInterval: Duration

  public init(
    _ checkpoint: Checkpoint, _ plan: Plan, windows: Windows, statistics: StatisticsFile? = nil,
    files: CompanionFiles, on compute: Compute, spillInterval: Duration = .seconds(2)
  ) {
    self.checkpoint = checkpoint
    self.plan = plan
    self.windows = windows
    self.statistics = statistics
    self.files = files
    self.compute = compute
    self.spillInterval = spillInterval
  }

  /// - Parameters:
  ///   - output: the output folder: missing, empty, or that of an unfinished run.
  ///   - shouldStop: called after each unit. If it returns true, the run stops and can be resumed.
  public func run(
    to output: String, progress: (Progress) -> Void, shouldStop: () -> Bool = { false }
  ) throws(QuantizeError) -> Report {
    guard plan.refusals.isEmpty else { throw .refused(plan.refusals) }
    if let fault = plan.recipe.undecidedFault {
      throw .unsoundRecipe(recipe: plan.recipe.name, reason: fault)
    }
    try checkCalibration()
    do {
      return try run(
        in: RunFolder(
          output: output, source: checkpoint.path, fingerprint: try fingerprint(),
          lastFile: CompanionFiles.reportName, scratchPrefix: StateStreams.filePrefix), progress,
        shouldStop)
    } catch { throw QuantizeError(wrapping: error) }
  }

  private func run(
    in folder: RunFolder<JournalEntry>, _ progress: (Progress) -> Void, _ shouldStop: () -> Bool
  ) throws -> Report {
    try requireSpace(folder)
    var streams = try startStreams(in: folder.path)
    let resumed = try resume(folder, &streams)
    for (index, unit) in plan.units.prefix(resumed).enumerated() {
      progress(
        Progress(
          unit: unit.name, done: index + 1, total: plan.units.count,
          runningError: folder.entries[index].runningError, resumed: true))
    }
    var output = try ShardOutput(plan, folder: folder, from: resumed)
    var quantizedHead: Weight?
    var lastSpill = ContinuousClock.now
    var spillTime = Duration.zero
    var spilled = resumed - 1
    var measuring = Duration.zero
    for index in resumed..<plan.units.count {
      let unit = plan.units[index]
      var entry = try finish(unit, index, &streams, &output, &quantizedHead, &measuring)
      let isLast = index == plan.units.count - 1
      let stops = !isLast && shouldStop()
      if stops || !isLast && ContinuousClock.now - lastSpill >= max(spillInterval, spillTime * 20) {
        let start = ContinuousClock.now
        entry.states = try streams?.spill(to: folder, unit: index) ?? ""
        lastSpill = .now
        spillTime = lastSpill - start
      }
      try folder.append(entry)
      if entry.states != nil {
        streams?.removeSpill(of: spilled, from: folder)
        spilled = index
      }
      progress(
        Progress(
          unit: unit.name, done: index + 1, total: plan.units.count,
          runningError: entry.runningError, resumed: false))
      if stops { throw QuantizeError.interrupted(folder.path) }
    }
    try output.finish()
    let start = ContinuousClock.now
    let verdict = try verdict(&streams, quantizedHead)
    measuring += ContinuousClock.now - start
    let layers = folder.entries.flatMap(\.layers)
    let learned = plan.recipe.needsCalibration ? windows.calibration : []
    try files.write(
      plan, folder.entries, verdict: verdict, calibration: CalibrationMarks(learned), to: folder)
    try readBack(folder)
    let faults = plan.exporter.faults(in: folder.path)
    guard faults.isEmpty else { throw QuantizeError.brokenFormat(folder.path, faults) }
    try folder.publish()
    return Report(
      output: folder.output, bytes: plan.outputBytes, layers: layers, verdict: verdict,
      experts: ExpertCoverage(folder.entries, plan), resumedUnits: resumed, measuring: measuring)
  }

  /// What the steps still need from the windows, given the statistics.
  private var needs: StepNeeds {
    statistics == nil ? plan.recipe.needs : plan.recipe.needs.subtracting(.stored)
  }

  /// Throws if a step has no calibration data.
  private func checkCalibration() throws(QuantizeError) {
    guard plan.recipe.needsCalibration else { return }
    guard plan.decoder != nil else {
      throw .unmeasurable(
        "recipe \(plan.recipe.name) learns from a model that runs: "
          + (plan.familyError.map { "\($0)" } ?? ""))
    }
    try statistics?.check(checkpoint)
    if statistics != nil, plan.recipe.expertTokens == .all,
      !plan.recipe.needs.isDisjoint(with: .stored)
    {
      throw .recipeOption(
        recipe: plan.recipe.name, option: "--expert-tokens all",
        reason: "the statistics are of the tokens that routers sent; leave --statistics or it out")
    }
    guard needs.isEmpty || !windows.calibration.isEmpty else {
      throw .unmeasurable(
        "recipe \(plan.recipe.name) learns from text that runs through the model. Use --calibrate.")
    }
  }

  private func startStreams(in folder: String) throws(QuantizeError) -> StateStreams? {
    guard let config = plan.decoder, !windows.heldOut.isEmpty || plan.recipe.needsCalibration else {
      return nil
    }
    let ends: DecoderEnds
    do { ends = try DecoderEnds(config, from: checkpoint) } catch { throw .model(error) }
    defer { ends.embedding.release() }
    var streams = try StateStreams(
      calibration: windows.calibration, heldOut: windows.heldOut, needs: needs,
      config: config, ends: ends, in: folder, on: compute)
    streams.pass.showsAllTokens = plan.recipe.expertTokens == .all
    return streams
  }

  /// Throws before the run if the output does not fit on the disk. Bytes of an earlier run count as
  /// written.
  private func requireSpace(_ folder: RunFolder<JournalEntry>) throws(QuantizeError) {
    let written = folder.entries.reduce(0) { sum, entry in
      entry.unit < plan.units.count
        ? sum + ShardOutput.byteCount(of: plan.units[entry.unit], plan) : sum
    }
    try files.requireSpace(for: plan, at: folder.output, written: written)
  }

  /// Number of units that need not run again: their bytes match the journal, their source is
  /// unchanged, and the hidden states after the last of them are stored. The last unit always runs
  /// again.
  private func resume(
    _ folder: RunFolder<JournalEntry>, _ streams: inout StateStreams?
  ) throws -> Int {
    let intact = ShardOutput.intactUnits(plan, folder, on: compute)
    let changed = (0..<intact).first { folder.entries[$0].source != source(of: plan.units[$0]) }
    if let changed {
      throw RunFolderError.unfinishedRun(
        folder.path,
        reason: "the weights of \(plan.units[changed].name) changed since it was written")
    }
    for index in folder.entries.indices.reversed() where index < intact {
      guard index < plan.units.count - 1, let hash = folder.entries[index].states else { continue }
      if streams == nil || streams?.restore(from: folder, unit: index, sha256: hash) == true {
        try folder.keep(index + 1)
        return index + 1
      }
    }
    try folder.keep(0)
    return 0
  }

  private func finish(
    _ unit: Plan.Unit, _ index: Int, _ streams: inout StateStreams?, _ output: inout ShardOutput,
    _ quantizedHead: inout Weight?, _ measuring: inout Duration
  ) throws(QuantizeError) -> JournalEntry {
    let steps = BlockSteps(plan: plan, unit: unit, checkpoint: checkpoint, compute: compute)
    var outcome: BlockSteps.Outcome
    var runningError: Double?
    if let block = unit.block, let config = plan.decoder, streams != nil {
      let source: Block
      do { source = try Block(config.blocks[block], from: checkpoint) } catch {
        throw .model(error)
      }
      outcome =
        plan.recipe.needsCalibration
        ? try steps.calibrated(
          source, block, isLast: block == config.blocks.count - 1, statistics, &streams)
        : try steps.round(plan.recipe.plainRound)
      let start = ContinuousClock.now
      runningError = run(source, outcome, &streams)
      measuring += ContinuousClock.now - start
      source.release()
    } else {
      outcome = try steps.round(plan.recipe.plainRound)
      if unit.block == nil {
        quantizedHead = plan.decoder.flatMap { outcome.weights[$0.head.path] }
      }
    }
    let sourceHash = source(of: unit)
    let hash = try output.append(unit, outcome.encoded, from: checkpoint)
    return JournalEntry(
      unit: index, sha256: hash, source: sourceHash, layers: outcome.layers, steps: outcome.steps,
      expertTokens: outcome.expertTokens.isEmpty ? nil : outcome.expertTokens,
      cache: outcome.cache, runningError: runningError, states: nil)
  }

  /// Runs the source's block and the quantized one over the windows that measure the error.
  private func run(
    _ source: Block, _ outcome: BlockSteps.Outcome, _ streams: inout StateStreams?
  ) -> Double? {
    var quantized = outcome.block ?? source
    for id in source.linears.keys where outcome.block == nil {
      if let weight = outcome.weights[source.shape.path(of: id)] {
        quantized.linears[id]?.weight = weight
      }
    }
    guard let all = streams?.windows.indices, let calibration = streams?.calibration else {
      return nil
    }
    // With calibration, the calibration windows have already passed the block.
    let measured = needs.isEmpty ? all : calibration.upperBound..<all.upperBound
    let cache = plan.recipe.cache.flatMap { outcome.cache?.scales($0.format) }
    return streams?.run(source: source, quantized: quantized, cache: cache, over: measured)
  }

  private func verdict(
    _ streams: inout StateStreams?, _ quantizedHead: Weight?
  ) throws(QuantizeError) -> Verdict? {
    guard let config = plan.decoder, streams != nil else { return nil }
    do {
      let ends = try DecoderEnds(config, from: checkpoint)
      defer { ends.head.release() }
      return streams?.verdict(
        OutputHead(ends, on: compute),
        quantized: OutputHead(ends, weight: quantizedHead, on: compute),
        kinds: windows.heldOutKinds)
    } catch { throw .model(error) }
  }

  /// Verifies every unit's bytes in the finished files.
  private func readBack(_ folder: RunFolder<JournalEntry>) throws(QuantizeError) {
    for (index, layout) in plan.shards.enumerated() {
      let name = plan.fileName(shard: index)
      guard (try? MappedFile(path: folder.path + "/" + name))?.count == layout.fileSize else {
        throw .damagedOutput(file: folder.path + "/" + name, unit: "its size")
      }
    }
    let intact = ShardOutput.intactUnits(plan, folder, on: compute)
    guard intact == plan.units.count else {
      throw .damagedOutput(
        file: folder.path + "/" + plan.fileName(shard: plan.units[intact].shard),
        unit: plan.units[intact].name)
    }
  }

  /// SHA-256 of a unit's source tensors, so that a run is not resumed from other weights.
  private func source(of unit: Plan.Unit) -> String {
    var names: [String] = []
    for tensor in unit.layers.map(\.tensor) + unit.tensors.map(\.name)
    where checkpoint.tensor(tensor) != nil && !names.contains(tensor) { names.append(tensor) }
    var hashes = [String](repeating: "", count: names.count)
    unsafe hashes.withUnsafeMutableBufferPointer { hashes in
      compute.pool.run(names.count) { index, _ in
        unsafe hashes[index] = (try? checkpoint.storedBytes(of: names[index]))?.sha256() ?? ""
      }
    }
    return Checksum.sha256(Array(hashes.joined().utf8))
  }

  /// Hash of everything that determines the output's bytes: the source's tensors and files, the
  /// recipe, the layout, the windows and the arithmetic.
  private func fingerprint() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    var lines = [
      "nibble \(NibbleVersion.current)",
      String(decoding: try encoder.encode(plan.recipe), as: UTF8.self),
      "\(plan.exporter.name) \(compute.precision) \(Compute.tiles)",
      checkpoint.config.text(),
      String(
        decoding: try encoder.encode([windows.calibration, windows.heldOut]), as: UTF8.self),
    ]
    lines += plan.shards.map { Checksum.sha256($0.header) }
    lines += checkpoint.tensors.map { "\($0.name) \($0.dtype) \($0.shape)" }
    lines += try checkpoint.identity()
    if let statistics { lines.append("statistics \(try statistics.digest())") }
    return Checksum.sha256(Array(lines.joined(separator: "\n").utf8))
  }
}
