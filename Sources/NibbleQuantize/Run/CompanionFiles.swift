import Foundation
import NibbleFormats
public import NibbleModel
import NibbleTensor

/// The files of a model besides its weights: config, tokenizer, generation defaults, the licence.
///
/// Every file of the source is copied or listed as dropped.
public struct CompanionFiles: Sendable {
  /// Name and path of each file that is copied unchanged.
  public private(set) var copied: [(name: String, path: String)] = []
  /// Name of each file that is not written to the output, and the reason.
  public private(set) var dropped: [(name: String, reason: String)] = []
  /// Name and content of each file made here.
  private var made: [(name: String, bytes: [UInt8])] = []

  /// Lists the files of the folder that a checkpoint was read from.
  public init(of checkpoint: Checkpoint) throws(QuantizeError) {
    var isFolder: ObjCBool = false
    let exists = unsafe FileManager.default.fileExists(
      atPath: checkpoint.path, isDirectory: &isFolder)
    guard exists, isFolder.boolValue else { return }
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: checkpoint.path) } catch {
      throw .format(.file(FileError("list the folder", checkpoint.path, code: EACCES)))
    }
    let sources = Set(
      checkpoint.weightFiles.map { URL(fileURLWithPath: $0).lastPathComponent })
    let weights = [".safetensors", ".bin", ".gguf", ".pt", ".pth", ".onnx", ".msgpack", ".h5"]
    for name in names.sorted() {
      let path = checkpoint.path + "/" + name
      var isFolder: ObjCBool = false
      _ = unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
      if isFolder.boolValue {
        dropped.append((name, "a folder"))
      } else if name == "config.json" || name == SafetensorsCheckpoint.indexName
        || name == Self.reportName || sources.contains(name)
      {
        continue
      } else if name == PyTorchCheckpoint.indexName {
        if !sources.contains(where: { $0.hasSuffix(".bin") }) {
          dropped.append((name, "the index of weights in another format"))
        }
      } else if let suffix = weights.first(where: { name.hasSuffix($0) }) {
        if suffix != ".safetensors" { dropped.append((name, "weights in another format")) }
      } else if Self.codeSettings.contains(name) {
        dropped.append((name, "says how codes of the source were stored"))
      } else if name.hasPrefix(".") {
        dropped.append((name, "a hidden file"))
      } else {
        copied.append((name, path))
      }
    }
  }

  /// Adds a file that the source did not have, such as the tokenizer of a GGUF.
  public mutating func add(_ name: String, _ text: String) { made.append((name, Array(text.utf8))) }

  private static let codeSettings: Set<String> = [
    "quantize_config.json", "quant_config.json", "hf_quant_config.json",
  ]

  public static let reportName = "nibble_report.json"

  /// Opens every file that will be copied, so that an unreadable one is found before the run.
  public func check() throws(QuantizeError) {
    for file in copied {
      do { _ = try MappedFile(path: file.path) } catch { throw .format(.file(error)) }
    }
  }

  /// Throws if the output does not fit on the disk.
  ///
  /// - Parameter written: bytes of the output that already exist.
  public func requireSpace(
    for plan: Plan, at output: String, written: Int = 0
  ) throws(QuantizeError) {
    guard let free = OutputPath.freeBytes(output) else { return }
    let needed = plan.outputBytes + byteCount - written
    guard needed <= free else {
      throw .folder(.noSpace(output, needed: needed, free: free))
    }
  }

  /// Bytes of the files that will be copied.
  private var byteCount: Int {
    copied.reduce(0) { sum, file in
      let attributes = try? FileManager.default.attributesOfItem(
        atPath: (file.path as NSString).resolvingSymlinksInPath)
      return sum + (attributes?[.size] as? Int ?? 0)
    }
  }

  func write(
    _ plan: Plan, _ entries: [JournalEntry], verdict: Verdict?, calibration: CalibrationMarks,
    to folder: RunFolder<JournalEntry>
  ) throws {
    for file in copied {
      let mapped = try MappedFile(path: file.path)
      try folder.write(Bytes(mapped, 0..<mapped.count).array, to: file.name)
    }
    for file in made { try folder.write(file.bytes, to: file.name) }
    if plan.shards.count > 1 {
      let shards = plan.shards.enumerated().map { (plan.fileName(shard: $0.offset), $0.element) }
      try folder.write(
        Array(SafetensorsIndex.text(shards).utf8),
        to: plan.exporter.stem(of: plan) + ".safetensors.index.json")
    }
    for file in plan.exporter.companions(of: plan) {
      try folder.write(Array(file.text.utf8), to: file.name)
    }
    if plan.recipe.cache?.ranks != nil {
      for file in plan.exporter.cacheFiles(entries.compactMap(\.cache), plan) {
        try folder.write(file.bytes, to: file.name)
      }
    }
    let config = plan.exporter.config(plan.sourceConfig, plan).text(pretty: true) + "\n"
    try folder.write(Array(config.utf8), to: "config.json")
    var report = report(plan, entries, verdict)
    if !calibration.isEmpty { report.set("calibration_marks", calibration.json) }
    report.set("files", FileChecksums(try folder.checksums()).json)
    try folder.write(Array((report.text(pretty: true) + "\n").utf8), to: Self.reportName)
  }

  /// The JSON report: what was done and the error of each layer. Contains no times, so that the
  /// same input gives the same bytes.
  private func report(_ plan: Plan, _ entries: [JournalEntry], _ verdict: Verdict?) -> JSON {
    var schemes: [String: String] = [:]
    for layer in plan.layers { schemes[layer.path] = layer.scheme.description }
    let rows = entries.flatMap(\.layers).map { layer -> JSON in
      var row: JSON = [
        "path": .string(layer.path), "scheme": .string(schemes[layer.path] ?? ""),
        "sqnr_db": layer.signalToNoise.map { .number($0) } ?? .null,
      ]
      if let sparsity = layer.sparsity {
        row.set("outlier_share", .number(sparsity.outlierShare))
        row.set("entropy_bits", .number(sparsity.entropy))
        row.set("compressed_bytes", JSON(sparsity.compressedBytes))
      }
      return row
    }
    var report: JSON = [
      "nibble": .string(NibbleVersion.current),
      "recipe": .string(plan.recipe.name),
      "format": .string(plan.exporter.name),
      "kv_cache": plan.recipe.cache.map { .string($0.format.rawValue) } ?? .null,
      "source_bytes": JSON(plan.sourceBytes),
      "bytes": JSON(plan.outputBytes),
      "verdict": verdict?.json(bound: plan.recipe.maxKL)
        ?? .string("the weights alone were measured: the family cannot be run"),
      "kept_float": .array(
        plan.keptFloat.map { ["path": .string($0.path), "reason": .string($0.reason)] }),
      "dropped_files": .array(
        dropped.map { ["name": .string($0.name), "reason": .string($0.reason)] }),
      "steps": .array(
        entries.flatMap(\.steps).map { step in
          var row: JSON = [
            "step": .string(step.step), "block": JSON(step.block),
            "site": step.site.map { .string($0.rawValue) } ?? .null,
            "result": .string(step.result),
          ]
          if let losses = step.losses { row.set("losses", .array(losses.map { .number($0) })) }
          return row
        }),
      "layers": .array(rows),
    ]
    if let experts = ExpertCoverage(entries, plan) { report.set("experts", experts.json) }
    return report
  }
}
