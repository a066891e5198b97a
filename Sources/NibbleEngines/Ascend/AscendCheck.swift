import NibbleFormats
public import NibbleModel
public import NibbleTensor

/// Checks a checkpoint against the requirements of Ascend's consumers: names, types, shapes, the
/// description, and for compressed codes the index and every block.
public struct AscendCheck: Sendable {
  /// Result of the check.
  public struct Report: Hashable, Sendable {
    /// Faults that a consumer would refuse, or read wrongly.
    public var faults: [String] = []
    /// Remarks that are no faults.
    public var notes: [String] = []
    public var tensors = 0
    public var compressedBlocks = 0

    public init() {}
  }

  private let path: String
  private let ranks: Int

  /// - Parameter ranks: number of ranks that will run the model.
  public init(path: String, ranks: Int) {
    self.path = path
    self.ranks = ranks
  }

  public func run(on compute: Compute) throws(ModelError) -> Report {
    let folders = AscendParts.folders(of: path)
    let checkpoint = try Checkpoint(path: path, weights: folders.first ?? path)
    let config = try checkpoint.decoderShape()
    var report = Report()
    let quantize = checkpoint.config["quantize"]?.string
    if checkpoint.config["torch_dtype"]?.string == nil {
      report.faults.append("config.json: torch_dtype is missing; MindIE reads it")
    }
    let split: AscendSplit
    do { split = try AscendSplit(config, ranks: ranks) } catch {
      report.faults.append("\(error)")
      return report
    }
    if !folders.isEmpty, folders.count != ranks {
      report.faults.append(
        "there are \(folders.count) parts for \(ranks) ranks; compress the W8A8S model again with "
          + "--tp \(ranks)")
      return report
    }
    for folder in folders.isEmpty ? [path] : folders {
      guard let description = try AscendDescription(folder: folder) else {
        report.faults.append("\(folder): there is no \(Ascend.descriptionStem).json")
        continue
      }
      if quantize != description.type.fileName {
        report.faults.append(
          "config.json: quantize is \(quantize ?? "missing"), but the description says "
            + "\(description.type.rawValue)")
      }
      let part = AscendPart(
        checkpoint: folders.isEmpty
          ? checkpoint : try Checkpoint(path: path, weights: folder),
        description: description, path: folder)
      let check = try AscendPartCheck(
        part: part, config: config, split: folders.isEmpty ? AscendSplit(config, ranks: 1) : split,
        compute: compute)
      check.run(&report)
    }
    if folders.isEmpty {
      let roles = AscendModule.all(block: 0, of: config, fused: false)
        .filter { !split.dividesIntoBlocks($0) }.flatMap(\.roles)
      if !roles.isEmpty {
        report.notes.append(
          "with \(ranks) ranks compress leaves \(roles.map(\.rawValue).joined(separator: ", ")) as "
            + "they are: their outputs a rank are no multiple of 128")
      }
    }
    return report
  }
}

/// The check of one part.
private struct AscendPartCheck {
  let part: AscendPart
  let config: DecoderShape
  /// A single rank for a model without parts.
  let split: AscendSplit
  let compute: Compute

  func run(_ report: inout AscendCheck.Report) {
    report.tensors += part.checkpoint.tensors.count
    for tensor in part.checkpoint.tensors where part.description[tensor.name] == nil {
      report.faults.append("\(part.path): \(tensor.name): the description does not name it")
    }
    for name in part.description.names where part.checkpoint.tensor(name) == nil {
      report.notes.append("\(part.path): the description names \(name), which is not there")
    }
    let family = config
    for block in config.blocks.indices {
      for module in part.modules(block: block, of: family) {
        do { try check(module, &report) } catch {
          report.faults.append("\(part.path): \(error)")
        }
      }
    }
  }

  private func check(
    _ module: AscendModule, _ report: inout AscendCheck.Report
  ) throws(ModelError) {
    let path = module.path
    let (n, k) = split.shape(of: module)
    let type = part.type(of: path)
    for suffix in type.suffixes {
      let name = "\(path).\(suffix)"
      guard part.checkpoint.tensor(name) != nil else {
        throw .missingTensor(name, path: part.path)
      }
      let found = part.description[name]
      guard found == type.type(of: suffix) else {
        throw .unsupported(
          "\(name): is described as \(found?.rawValue ?? "nothing"), not "
            + type.type(of: suffix).rawValue)
      }
    }
    guard type.isStatic else {
      if type != .float {
        _ = try part.plain(path, type, outputs: n, inputs: k)
      }
      return
    }
    _ = try part.numbers(path, outputs: n)
    let codes = try part.codes(path, outputs: n, inputs: k, on: compute)
    guard type == .w8a8sc else { return }
    let grid = FractalGrid(outputs: n, inputs: k)
    report.compressedBlocks += grid.blocks
    if grid.tailOverlaps {
      report.notes.append(
        "\(part.path): \(path): its last blocks overlap, which is experimental")
    }
    let again = CompressedCodes(compressing: codes, grid: grid, on: compute)
    let stored = try part.checkpoint.bytes(of: path + ".weight")
    if again.data != stored.array {
      report.notes.append(
        "\(part.path): \(path).weight: whole, but compressed by other choices than Nibble's")
    }
  }
}
