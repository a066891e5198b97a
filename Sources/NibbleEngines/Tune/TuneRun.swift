import Foundation
import NibbleFormats
import NibbleModel
public import NibbleQuantize
public import NibbleTensor

/// Tunes a quantized checkpoint against its source and writes it anew: see `Tune`. Tensors that are
/// not tuned, and files besides the weights, keep their bytes.
///
/// The same models, windows and settings give the same bytes for any number of threads, and also
/// after a killed run is resumed.
public struct TuneRun {
  /// The windows of token ids that a model is tuned on.
  public struct Windows: Sendable {
    /// Text to learn from; some windows are kept out, to choose the best step by.
    public var calibration: [[Int]] = []
    /// Text of other kinds, on which the divergence must fall too; may be empty.
    public var other: [[Int]] = []
    /// Text of the verdict.
    public var heldOut: [[Int]] = []
    /// The kinds of text of the held-out windows; nil when unknown.
    public var heldOutKinds: TextKinds?

    public init() {}
  }

  /// A measurement on windows kept out.
  public struct Progress: Sendable {
    public var step: Int
    public var steps: Int
    /// Mean KL divergence on the calibration text kept out and, if there is any, on the other text.
    public var divergences: [Double]
    /// Whether an earlier run got here.
    public var resumed: Bool
  }

  public struct Report: Sendable {
    public var output: String
    /// The step that was chosen.
    public var step: Int
    /// Numbers that were learned.
    public var parameters: Int
    /// Whether a step led to infinite values, so that learning ended early.
    public var hasDiverged: Bool
    /// Of the checkpoint as it was; nil without held-out windows.
    public var before: Verdict?
    /// Of what was written; nil without held-out windows.
    public var after: Verdict?
  }

  private struct Entry: Codable {
    var progress: TuneLearning.Progress
    /// SHA-256 of the file of the state after it.
    var sha256: String
  }

  private let model: LoadedModel
  private let source: LoadedModel
  private let windows: Windows
  private let settings: Tune
  private let compute: Compute
  private static let statePrefix = "tune-"

  public init(
    _ model: LoadedModel, against source: LoadedModel, windows: Windows, settings: Tune,
    on compute: Compute
  ) {
    self.model = model
    self.source = source
    self.windows = windows
    self.settings = settings
    self.compute = compute
  }

  /// - Parameters:
  ///   - output: the output folder: missing, empty, or that of an unfinished run.
  ///   - bound: written to the report beside the verdict.
  ///   - shouldStop: called after each measurement. If it returns true, the run stops and can be
  ///     resumed.
  /// - Throws: also when nothing was gained; then nothing is written.
  public func run(
    to output: String, bound: Double?, progress: (Progress) -> Void,
    shouldStop: () -> Bool = { false }
  ) throws(QuantizeError) -> Report {
    do {
      try checkShapes()
      let tunable = try TunableVectors(model)
      let files = try CompanionFiles(of: model.checkpoint)
      try files.check()
      let folder = try RunFolder<Entry>(
        output: output, source: model.checkpoint.path, fingerprint: try fingerprint(),
        lastFile: CompanionFiles.reportName, scratchPrefix: Self.statePrefix)
      let text = try TuneText(
        calibration: windows.calibration, other: windows.other, heldOut: windows.heldOut,
        for: settings, of: model.decoder, source: source.decoder, in: folder.path, on: compute)
      let start = Tuning(
        model.decoder, tunable.vectors, source: OutputHead(source.decoder.ends, on: compute),
        try ForwardPass(model.decoder.shape, positions: text.longest, on: compute))
      let learning = try learn(start, text, folder, progress, shouldStop)
      guard learning.isBetter else {
        throw QuantizeError.nothingGained(path: model.checkpoint.path, reason: reason(learning))
      }
      let chosen = learning.chosen
      let report = Report(
        output: folder.output, step: learning.progress.bestStep, parameters: chosen.factors.count,
        hasDiverged: learning.hasDiverged,
        before: try text.verdict(on: start, kinds: windows.heldOutKinds),
        after: try text.verdict(on: chosen, kinds: windows.heldOutKinds))
      try write(tunable.bytes(of: chosen), files, learning, report, bound: bound, to: folder)
      // Faults that the model had before are not this run's.
      let earlier = Set(EngineContract.writtenFaults(model.checkpoint.path))
      let faults = EngineContract.writtenFaults(folder.path).filter { !earlier.contains($0) }
      guard faults.isEmpty else { throw QuantizeError.brokenFormat(folder.path, faults) }
      try folder.publish()
      return report
    } catch { throw QuantizeError(wrapping: error) }
  }

  private func checkShapes() throws(ModelError) {
    let (ours, theirs) = (model.decoder.shape, source.decoder.shape)
    guard ours.hidden == theirs.hidden, ours.vocabulary == theirs.vocabulary,
      ours.blocks.count == theirs.blocks.count
    else {
      throw .unsupported(
        "\(source.checkpoint.path) is not the source of \(model.checkpoint.path): it has "
          + "\(theirs.blocks.count) blocks of \(theirs.hidden) and \(theirs.vocabulary) tokens, not "
          + "\(ours.blocks.count) of \(ours.hidden) and \(ours.vocabulary)")
    }
    if let method = try source.checkpoint.quantizationMethod() {
      throw .unsupported(
        "\(source.checkpoint.path) is quantized itself (\(method)); tune against the float model")
    }
  }

  private func learn(
    _ start: Tuning, _ text: TuneText, _ folder: RunFolder<Entry>, _ progress: (Progress) -> Void,
    _ shouldStop: () -> Bool
  ) throws -> TuneLearning {
    var learning = try TuneLearning(settings, start, on: text)
    try resume(&learning, folder)
    func show(_ check: TuneLearning.Check, resumed: Bool) {
      progress(
        Progress(
          step: check.step, steps: settings.steps, divergences: check.divergences,
          resumed: resumed))
    }
    for check in learning.progress.checks { show(check, resumed: check.step > 0) }
    while !learning.isFinished {
      try learning.advance()
      guard let last = learning.progress.checks.last, !learning.hasDiverged else { break }
      let number = folder.entries.count
      let sha256 = try folder.write(
        learning.state.lazy.map { FloatFormat.f32.encode($0.span) }, to: Self.name(number))
      try folder.append(Entry(progress: learning.progress, sha256: sha256))
      if number > 0 { folder.remove(Self.name(number - 1)) }
      show(last, resumed: false)
      if !learning.isFinished, shouldStop() { throw QuantizeError.interrupted(folder.path) }
    }
    return learning
  }

  private static func name(_ entry: Int) -> String { "\(statePrefix)\(entry).bin" }

  /// Continues after the last entry if its file is as it was written; starts over otherwise.
  private func resume(_ learning: inout TuneLearning, _ folder: RunFolder<Entry>) throws {
    guard let last = folder.entries.last else { return }
    let name = Self.name(folder.entries.count - 1)
    let count = learning.state.map(\.count).first ?? 0
    guard let file = try? MappedFile(path: folder.path + "/" + name),
      file.count == 4 * 4 * count, Bytes(file, 0..<file.count).sha256() == last.sha256
    else { return try folder.keep(0) }
    let state = (0..<4).map {
      FloatFormat.f32.decode(Bytes(file, $0 * 4 * count..<($0 + 1) * 4 * count))
    }
    try learning.resume(last.progress, state)
  }

  private func reason(_ learning: TuneLearning) -> String {
    let text =
      "nothing was gained in \(learning.progress.checks.last?.step ?? 0) steps by more than two "
      + "standard errors on each kept-out text; nothing was written. "
    return text
      + (learning.hasDiverged
        ? "Learning diverged: use a lower --rate." : "Try more text or --steps.")
  }

  private func write(
    _ replaced: [String: [UInt8]], _ files: CompanionFiles, _ learning: TuneLearning,
    _ report: Report, bound: Double?, to folder: RunFolder<Entry>
  ) throws {
    for path in model.checkpoint.weightFiles {
      try folder.write(
        ReplacedTensors(path, replacing: replaced), to: (path as NSString).lastPathComponent)
    }
    let others = [SafetensorsCheckpoint.indexName, "config.json"].map {
      (name: $0, path: model.checkpoint.path + "/" + $0)
    }.filter { FileManager.default.fileExists(atPath: $0.path) }
    for file in files.copied + others {
      let mapped = try MappedFile(path: file.path)
      try folder.write(Bytes(mapped, 0..<mapped.count).array, to: file.name)
    }
    var json = try earlierReport() ?? ["nibble": .string(NibbleVersion.current)]
    if let after = report.after { json.set("verdict", after.json(bound: bound)) }
    json.set(
      "calibration_marks", CalibrationMarks(report: json).adding(windows.calibration).json)
    json.set("tune", self.json(learning, report))
    json.set("files", FileChecksums(try folder.checksums()).json)
    try folder.write(
      Array((json.text(pretty: true) + "\n").utf8), to: CompanionFiles.reportName)
  }

  private func earlierReport() throws -> JSON? {
    let path = model.checkpoint.path + "/" + CompanionFiles.reportName
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let mapped = try MappedFile(path: path)
    return try JSON(parsing: Bytes(mapped, 0..<mapped.count).array)
  }

  private func json(_ learning: TuneLearning, _ report: Report) -> JSON {
    [
      "steps": JSON(settings.steps), "tokens": JSON(settings.tokens),
      "rate": .number(Double(settings.rate)),
      "temperature": .number(Double(settings.temperature)),
      "parameters": JSON(report.parameters), "chosen_step": JSON(report.step),
      "kl_before": report.before.map { .number($0.kl) } ?? .null,
      "checks": .array(
        learning.progress.checks.map { check in
          [
            "step": JSON(check.step), "loss": check.loss.map { .number($0) } ?? .null,
            "kl": .array(check.divergences.map { .number($0) }),
          ]
        }),
    ]
  }

  /// Hash of everything that determines the output's bytes.
  private func fingerprint() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    var lines = [
      "nibble \(NibbleVersion.current) tune", "\(compute.precision) \(Compute.tiles)",
      String(decoding: try encoder.encode(settings), as: UTF8.self),
      String(
        decoding: try encoder.encode([windows.calibration, windows.other, windows.heldOut]),
        as: UTF8.self),
    ]
    lines += try model.checkpoint.identity()
    lines += try source.checkpoint.identity()
    return Checksum.sha256(Array(lines.joined(separator: "\n").utf8))
  }
}
