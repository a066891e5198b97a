import Foundation
import NibbleFormats
public import NibbleModel
import NibbleQuantize
public import NibbleTensor

/// Turns a W8A8S checkpoint into W8A8SC: split for tensor parallelism first, then each rank's codes
/// compressed.
///
/// A layer whose outputs on a rank are no multiple of 128 stays W8A8S, because the published layout
/// does not say how its last block lies. Embedding, norms and head stand whole in every part.
public struct AscendCompression: Sendable {
  /// A module that stays as it is.
  public struct Kept: Hashable, Sendable {
    public var path: String
    public var outputs: Int
    /// Numbers of ranks with which it would be compressed.
    public var fitting: [Int]
  }

  /// What was done.
  public struct Report: Hashable, Sendable {
    public var layers = 0
    /// Of the codes, before and after, all ranks together.
    public var bytes = 0
    public var compressedBytes = 0
  }

  let checkpoint: Checkpoint
  let config: DecoderConfig
  let source: AscendPart
  let split: AscendSplit
  /// Whether norms that were smoothed have the names of the runtime that fuses modules.
  let renamesNorms: Bool
  public let kept: [Kept]
  /// The layers, by path, with the modules that they go to.
  let layers: [String: (role: Role, module: AscendModule)]
  /// Modules that are compressed.
  let compressed: Set<AscendModule>

  public var ranks: Int { split.ranks }

  /// - Parameters:
  ///   - overlapsTail: whether layers that 128 does not divide are compressed with a last block that
  ///     covers rows of its neighbour again, as a consumer's kernel reads them.
  ///   - fused: whether modules have the names of MindIE's Llama classes: query, key and value in one,
  ///     gate and up in one, where all of them are W8A8S; smoothed norms as `ori` and `anti`.
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
    let config = try checkpoint.decoderConfig()
    self.config = config
    let source = AscendPart(
      checkpoint: checkpoint, description: description, path: checkpoint.path)
    self.source = source
    let split = try AscendSplit(config, ranks: ranks)
    self.split = split
    let family = config.family
    var layers: [String: (role: Role, module: AscendModule)] = [:]
    var compressed: Set<AscendModule> = []
    var kept: [Kept] = []
    for block in 0..<config.blocks {
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
    self.layers = layers
    self.compressed = compressed
    self.kept = kept
  }

  /// Writes all parts, config and tokenizer.
  ///
  /// - Parameters:
  ///   - output: a folder that is missing or empty.
  ///   - group: processes that share the ranks out, this one among them. All report the whole.
  public func run(
    to output: String, on compute: Compute, among group: ProcessGroup = .alone,
    progress: (_ rank: Int, _ layer: Int) -> Void
  ) throws -> Report {
    let target = URL(fileURLWithPath: output).standardizedFileURL.path
    let folder = target + ".nibble-partial"
    try group.agree { if group.isFirst { try start(folder, for: target, named: output) } }
    var report = Report()
    try group.agree {
      for rank in stride(from: group.rank, to: ranks, by: group.count) {
        let part = folder + "/" + AscendParts.name(rank, of: ranks)
        do {
          try FileManager.default.createDirectory(
            atPath: part, withIntermediateDirectories: true)
        } catch { throw FileError("create the folder", part) }
        try write(rank, to: part, on: compute, &report) { progress(rank, $0) }
      }
    }
    try group.agree { if group.isFirst { try finish(folder, as: target) } }
    let sums = group.sum([
      Double(report.layers), Double(report.bytes), Double(report.compressedBytes),
    ])
    return Report(
      layers: Int(sums[0]), bytes: Int(sums[1]), compressedBytes: Int(sums[2]))
  }

  private func start(_ folder: String, for target: String, named output: String) throws {
    let manager = FileManager.default
    if manager.fileExists(atPath: target) {
      guard (try? manager.contentsOfDirectory(atPath: target))?.isEmpty == true else {
        throw QuantizeError.outputExists(output)
      }
    }
    guard !manager.fileExists(atPath: folder) else {
      throw QuantizeError.unfinishedRun(folder, reason: "a compression is not continued")
    }
    do { try manager.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
      throw FileError("create the folder", folder)
    }
  }

  private func finish(_ folder: String, as target: String) throws {
    let manager = FileManager.default
    try writeCompanions(to: folder)
    if manager.fileExists(atPath: target) { try manager.removeItem(atPath: target) }
    do { try manager.moveItem(atPath: folder, toPath: target) } catch {
      throw FileError("name", target)
    }
  }

  private func writeCompanions(to folder: String) throws {
    var config = checkpoint.config
    config.set("quantize", .string(AscendType.w8a8sc.fileName))
    config.set("torch_dtype", "float16")
    try Data((config.text(pretty: true) + "\n").utf8).write(
      to: URL(fileURLWithPath: folder + "/config.json"))
    let ours = [Ascend.descriptionStem, "quant_model_weight"]
    for file in CompanionFiles(of: checkpoint).copied
    where !ours.contains(where: file.name.hasPrefix) {
      try FileManager.default.copyItem(atPath: file.path, toPath: folder + "/" + file.name)
    }
  }
}
