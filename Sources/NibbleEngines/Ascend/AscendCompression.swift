import Foundation
import NibbleFormats
public import NibbleModel
public import NibbleProcesses
import NibbleQuantize
public import NibbleTensor

/// Turns a W8A8S checkpoint into W8A8SC: splits it for tensor parallelism, then compresses each
/// rank's codes.
///
/// If a rank's share of output rows is not divisible by 128, the layer stays W8A8S: the published
/// layout does not say how its last block is stored. Every part has a full copy of embedding, norms
/// and head.
public struct AscendCompression: Sendable {
  /// A module that is not compressed.
  public struct Kept: Hashable, Sendable {
    public var path: String
    public var outputs: Int
    /// Numbers of ranks for which it would be compressed.
    public var fitting: [Int]
  }

  /// Counts of modules and bytes.
  public struct Counts: Hashable, Sendable, Codable {
    public var layers = 0
    /// Bytes of the codes of all ranks, before compression and after.
    public var bytes = 0
    public var compressedBytes = 0
  }

  let checkpoint: Checkpoint
  let config: DecoderShape
  let overlapsTail: Bool
  let source: AscendPart
  let split: AscendSplit
  /// Whether smoothed norms get the names of the runtime that fuses modules.
  let renamesNorms: Bool
  public let kept: [Kept]
  /// The layers, by path, with the module that each belongs to.
  let layers: [String: (role: Role, module: AscendModule)]
  /// Modules that will be compressed.
  let compressed: Set<AscendModule>

  public var ranks: Int { split.ranks }

  /// - Parameters:
  ///   - overlapsTail: whether layers whose outputs are not divisible by 128 are compressed with a
  ///     last block that repeats rows of its neighbour, as a consumer's kernel reads them.
  ///   - fused: whether modules get the names of MindIE's Llama classes: query, key and value in
  ///     one module, gate and up in one, where all of them are W8A8S; smoothed norms as `ori` and
  ///     `anti`.
  public init(
    _ checkpoint: Checkpoint, ranks: Int, overlapsTail: Bool, fused: Bool = false
  ) throws(ModelError) {
    guard let description = try AscendDescription(folder: checkpoint.path) else {
      throw .notAModel(
        path: checkpoint.path,
        reason: "there is no \(Ascend.descriptionStem).json; make the model with nibble quantize "
          + "--recipe w8a8s")
    }
    guard description.type == .w8a8s else {
      throw .unsupported(
        "\(checkpoint.path): is \(description.type.rawValue); only W8A8S codes are compressed. Make "
          + "the model with nibble quantize --recipe w8a8s.")
    }
    self.checkpoint = checkpoint
    let config = try checkpoint.decoderShape()
    try config.requireAscend(checkpoint.path)
    self.config = config
    let source = AscendPart(
      checkpoint: checkpoint, description: description, path: checkpoint.path)
    self.source = source
    let split = try AscendSplit(config, ranks: ranks)
    self.split = split
    let family = config
    var layers: [String: (role: Role, module: AscendModule)] = [:]
    var compressed: Set<AscendModule> = []
    var kept: [Kept] = []
    for block in config.blocks.indices {
      func isSparse(_ role: Role) -> Bool {
        source.type(of: family.path(of: role, block: block)) == .w8a8s
      }
      let modules = AscendModule.all(block: block, of: family, fused: fused).flatMap { module in
        module.roles.allSatisfy(isSparse)
          ? [module]
          : module.layers(of: family).filter { isSparse($0.roles[0]) }
      }
      for module in modules {
        for layer in module.layers(of: family) { layers[layer.path] = (layer.roles[0], module) }
        if overlapsTail || split.dividesIntoBlocks(module) {
          compressed.insert(module)
        } else {
          kept.append(
            Kept(
              path: module.path, outputs: split.shape(of: module).outputs,
              fitting: split.fittingRanks(module)))
        }
      }
    }
    renamesNorms = fused
    self.overlapsTail = overlapsTail
    self.layers = layers
    self.compressed = compressed
    self.kept = kept
  }

  /// A finished part.
  private struct FinishedPart: Codable {
    var rank: Int
    /// SHA-256 of its files, by name.
    var files: [String: String]
    var counts: Counts
  }

  /// Writes all parts, config and tokenizer. After a kill, a new run continues with the unfinished
  /// parts.
  ///
  /// - Parameters:
  ///   - output: a missing or empty folder, or the target of an unfinished run.
  ///   - group: processes that divide the ranks among them, including this one. All report the
  ///     totals.
  ///   - shouldStop: called before each part.
  public func run(
    to output: String, on compute: Compute, among group: ProcessGroup = .alone,
    progress: (_ rank: Int, _ layer: Int) -> Void, shouldStop: () -> Bool = { false }
  ) throws -> Counts {
    let files = try CompanionFiles(of: checkpoint)
    let target = try OutputPath.checked(output, source: checkpoint.path)
    // The first process owns the folder, its lock and its journal.
    let folder = try group.agree {
      try group.isFirst
        ? RunFolder<FinishedPart>(
          output: output, source: checkpoint.path, fingerprint: fingerprint(),
          lastFile: CompanionFiles.reportName) : nil
    }
    let path = target + OutputPath.partialSuffix
    var isDone = [Double](repeating: 0, count: ranks)
    try group.agree {
      guard let folder else { return }
      try folder.keep(folder.entries.firstIndex { !isIntact($0, in: path) } ?? folder.entries.count)
      for entry in folder.entries { isDone[entry.rank] = 1 }
    }
    isDone = group.sum(isDone)
    for first in stride(from: 0, to: ranks, by: group.count) {
      let round = first..<min(ranks, first + group.count)
      var counts = [Counts](repeating: Counts(), count: round.count)
      try group.agree {
        let rank = first + group.rank
        guard round.contains(rank), isDone[rank] == 0 else { return }
        guard !shouldStop() else { throw QuantizeError.interrupted(path) }
        let part = path + "/" + AscendParts.name(rank, of: ranks)
        // Left over from a killed run.
        try? FileManager.default.removeItem(atPath: part)
        do {
          try FileManager.default.createDirectory(
            atPath: part, withIntermediateDirectories: true)
        } catch { throw FileError("create the folder", part) }
        try write(rank, to: part, on: compute, &counts[group.rank]) { progress(rank, $0) }
      }
      let sums = group.sum(counts.flatMap(\.values))
      try group.agree {
        guard let folder else { return }
        for rank in round where isDone[rank] == 0 {
          let values = Array(sums[3 * (rank - first)..<3 * (rank - first) + 3])
          try folder.append(try finished(rank, Counts(values), in: path))
        }
      }
    }
    var total = Counts()
    try group.agree {
      guard let folder else { return }
      for entry in folder.entries { total.add(entry.counts) }
      try writeCompanions(files, total, to: folder)
      try folder.publish()
    }
    return Counts(group.sum(total.values))
  }

  private func finished(
    _ rank: Int, _ counts: Counts, in path: String
  ) throws -> FinishedPart {
    let part = AscendParts.name(rank, of: ranks)
    var files: [String: String] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: path + "/" + part) {
      let file = try MappedFile(path: "\(path)/\(part)/\(name)")
      files[name] = Bytes(file, 0..<file.count).sha256()
    }
    return FinishedPart(rank: rank, files: files, counts: counts)
  }

  private func isIntact(_ entry: FinishedPart, in path: String) -> Bool {
    (0..<ranks).contains(entry.rank)
      && (try? finished(entry.rank, entry.counts, in: path))?.files == entry.files
  }

  /// Identifies all inputs that determine the bytes of the output.
  private func fingerprint() throws(ModelError) -> String {
    let lines =
      ["compress \(NibbleVersion.current) \(ranks) \(overlapsTail) \(renamesNorms)"]
      + (try checkpoint.identity()) + [checkpoint.config.text()]
    return Checksum.sha256(Array(lines.joined(separator: "\n").utf8))
  }

  private func writeCompanions(
    _ files: CompanionFiles, _ counts: Counts, to folder: RunFolder<FinishedPart>
  ) throws {
    var config = checkpoint.config
    config.set("quantize", .string(AscendType.w8a8sc.fileName))
    config.set("torch_dtype", "float16")
    try folder.write(Array((config.text(pretty: true) + "\n").utf8), to: "config.json")
    let ours = [Ascend.descriptionStem, "quant_model_weight"]
    for file in files.copied where !ours.contains(where: file.name.hasPrefix) {
      let mapped = try MappedFile(path: file.path)
      try folder.write(Bytes(mapped, 0..<mapped.count).array, to: file.name)
    }
    // The report of the quantization still applies: the codes are the same.
    let source = checkpoint.path + "/" + CompanionFiles.reportName
    var report = (try? Checkpoint.json(source)) ?? ["nibble": .string(NibbleVersion.current)]
    report.set(
      "compressed",
      [
        "ranks": JSON(ranks), "layers": JSON(counts.layers), "bytes": JSON(counts.bytes),
        "compressed_bytes": JSON(counts.compressedBytes),
      ])
    report.set("files", FileChecksums(try folder.checksums()).json)
    try folder.write(
      Array((report.text(pretty: true) + "\n").utf8), to: CompanionFiles.reportName)
  }
}

extension AscendCompression.Counts {
  fileprivate init(_ values: [Double]) {
    (layers, bytes, compressedBytes) = (Int(values[0]), Int(values[1]), Int(values[2]))
  }

  fileprivate var values: [Double] { [Double(layers), Double(bytes), Double(compressedBytes)] }

  fileprivate mutating func add(_ other: Self) {
    layers += other.layers
    bytes += other.bytes
    compressedBytes += other.compressedBytes
  }
}
