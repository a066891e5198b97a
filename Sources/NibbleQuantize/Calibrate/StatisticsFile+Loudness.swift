public import NibbleModel

/// How the inputs of layers are ranked by the difficulty of quantizing them with one range.
public enum InputLoudness: Sendable, Hashable {
  /// By largest magnitude.
  case peak
  /// By largest magnitude divided by the root mean square.
  case spread
}

extension StatisticsFile {
  /// Paths of the `count` linear layers whose inputs rank highest, highest first; layers that share
  /// inputs stay in the order of the block.
  ///
  /// Source: msmodelslim's `disable_level`, by `peak` for its lowbit rule and by `spread`
  /// otherwise. Ours: over all tokens seen, not just the first batch.
  public func loudestLinears(
    _ count: Int, by loudness: InputLoudness, of checkpoint: Checkpoint
  ) throws(QuantizeError) -> [String] {
    try check(checkpoint)
    let shape: DecoderShape
    do { shape = try checkpoint.decoderShape() } catch { throw .model(error) }
    var found: [(path: String, loudness: Double)] = []
    for (block, shape) in shape.blocks.enumerated() {
      for site in shape.sites {
        let record = try record(block, site.site)
        guard record.channels == site.width else {
          throw .statistics(path: path, reason: "its records have other sizes")
        }
        guard record.tokens > 0 else { continue }
        let peak = Double(zip(record.low, record.high).map { max(-$0, $1) }.max() ?? 0)
        let values = max(1, Double(record.tokens) * Double(record.channels))
        let square = record.energy.reduce(0) { $0 + $1.value } / values
        let value = loudness == .peak ? peak : square > 0 ? peak / square.squareRoot() : 0
        for id in site.ids { found.append((shape.path(of: id), value)) }
      }
    }
    let order = found.indices.sorted { a, b in
      found[a].loudness == found[b].loudness ? a < b : found[a].loudness > found[b].loudness
    }
    return order.prefix(count).map { found[$0].path }
  }
}
