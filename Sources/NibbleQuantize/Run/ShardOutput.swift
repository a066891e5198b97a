import Foundation
import NibbleFormats
import NibbleModel
import NibbleTensor

/// Writes the shards of a run, one unit after the other.
struct ShardOutput {
  private let plan: Plan
  private let folder: RunFolder<JournalEntry>
  private var writer: SafetensorsWriter?
  private var shard: Int

  /// Opens the shard of `unit` at the unit's first byte.
  init(_ plan: Plan, folder: RunFolder<JournalEntry>, from unit: Int) throws(QuantizeError) {
    self.plan = plan
    self.folder = folder
    shard = plan.units[unit].shard
    let path = folder.path + "/" + plan.fileName(shard: shard)
    let layout = plan.shards[shard]
    for finished in 0..<shard {
      let path = folder.path + "/" + plan.fileName(shard: finished)
      guard unsafe truncate(path, off_t(plan.shards[finished].fileSize)) == 0 else {
        throw .format(.file(FileError("shorten", path)))
      }
    }
    do {
      writer =
        unit > 0 && plan.units[unit - 1].shard == shard
        ? try SafetensorsWriter(
          layout: layout, path: path, resumeAt: Self.range(of: plan.units[unit], layout).lowerBound)
        : try SafetensorsWriter(layout: layout, path: path)
    } catch { throw .format(error) }
  }

  /// Writes a unit's tensors in order and releases the source's pages. Returns the SHA-256 of the
  /// bytes.
  mutating func append(
    _ unit: Plan.Unit, _ encoded: [String: Bytes], from checkpoint: Checkpoint
  ) throws(QuantizeError) -> String {
    var hash = Checksum(.sha256)
    do {
      if unit.shard != shard {
        try writer?.finish()
        shard = unit.shard
        writer = try SafetensorsWriter(
          layout: plan.shards[shard], path: folder.path + "/" + plan.fileName(shard: shard))
      }
      for tensor in unit.tensors {
        if let bytes = encoded[tensor.name] {
          hash.update(bytes)
          try writer?.append(bytes, of: tensor.name)
        } else if let copy = checkpoint.tensor(tensor.name) {
          try append(copy, from: checkpoint, &hash)
        }
      }
    } catch { throw QuantizeError(wrapping: error) }
    for layer in unit.layers {
      if let bytes = try? checkpoint.bytes(of: layer.tensor) { bytes.release() }
    }
    return hash.hexadecimal()
  }

  /// Copies a tensor in groups of rows, so that only a few MiB of it are in memory.
  private func append(
    _ tensor: Checkpoint.Tensor, from checkpoint: Checkpoint, _ hash: inout Checksum
  ) throws {
    let rows = tensor.shape.first ?? 1
    let grain = max(1, (4 << 20) / max(1, tensor.byteCount / max(1, rows)))
    for start in stride(from: 0, to: rows, by: grain) {
      let bytes = try checkpoint.bytes(of: tensor, rows: start..<min(rows, start + grain))
      if let index = tensor.dtype.floatFormat?.firstNonFinite(in: bytes) {
        let before = start * (tensor.elementCount / max(1, rows))
        throw QuantizeError.nonFinite(tensor: tensor.name, index: before + index)
      }
      hash.update(bytes)
      try writer?.append(bytes, of: tensor.name)
      bytes.release()
    }
  }

  func finish() throws(QuantizeError) {
    do { try writer?.finish() } catch { throw .format(error) }
  }

  /// Number of units, from the first, whose bytes match the journal.
  static func intactUnits(
    _ plan: Plan, _ folder: RunFolder<JournalEntry>, on compute: Compute
  ) -> Int {
    let files = plan.shards.indices.map { shard in
      try? MappedFile(path: folder.path + "/" + plan.fileName(shard: shard))
    }
    let count = min(folder.entries.count, plan.units.count)
    var isIntact = [Bool](repeating: false, count: count)
    unsafe isIntact.withUnsafeMutableBufferPointer { isIntact in
      compute.pool.run(count) { index, _ in
        let unit = plan.units[index]
        let layout = plan.shards[unit.shard]
        let range = Self.range(of: unit, layout)
        guard let file = files[unit.shard], range.upperBound <= file.count,
          Bytes(file, 0..<layout.header.count).array == layout.header
        else { return }
        unsafe isIntact[index] = Bytes(file, range).sha256() == folder.entries[index].sha256
      }
    }
    return isIntact.firstIndex(of: false) ?? count
  }

  /// Size of a unit in its shard, in bytes.
  static func byteCount(of unit: Plan.Unit, _ plan: Plan) -> Int {
    range(of: unit, plan.shards[unit.shard]).count
  }

  private static func range(of unit: Plan.Unit, _ layout: SafetensorsLayout) -> Range<Int> {
    let tensors = unit.tensors
    let start = tensors.first.flatMap { layout.range(of: $0.name) }?.lowerBound ?? 0
    let end = tensors.last.flatMap { layout.range(of: $0.name) }?.upperBound ?? start
    return start..<end
  }
}
