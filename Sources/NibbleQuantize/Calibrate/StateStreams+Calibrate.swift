import NibbleModel
import NibbleTensor

extension StateStreams {
  /// Statistics of the activations of the source's block over the calibration windows. Advances the
  /// states, except after the last block.
  ///
  /// - Parameter advances: false leaves the states at the block's input.
  mutating func statistics(
    of block: Block, isLast: Bool = false, advances: Bool = true, keepsMoments: Bool,
    keepsWindows: Bool = false
  ) -> [Site: ActivationStatistics] {
    var moments: [Site: GramMatrix] = [:]
    var extremes: [Site: [ColumnStatistics]] = [:]
    let compute = pass.compute
    let records = records(of: block, isLast: isLast, advances: advances) {
      site, activation, channels in
      if keepsWindows {
        var columns = ColumnStatistics(channels: channels)
        columns.add(activation, on: compute)
        extremes[site, default: []].append(columns)
      }
      guard keepsMoments else { return }
      moments[site, default: GramMatrix(channels: channels)].add(activation, on: compute)
    }
    for site in moments.keys { moments[site]?.finish(on: compute) }
    return records.reduce(into: [:]) {
      $0[$1.key] = ActivationStatistics(
        $1.value, moments: moments[$1.key], windows: extremes[$1.key] ?? [])
    }
  }

  /// The records of a block's activations; `watch` is called with each activation too.
  mutating func records(
    of block: Block, isLast: Bool = false, advances: Bool = true,
    watch: (Site, _ activation: [Float], _ channels: Int) -> Void = { _, _, _ in }
  ) -> [Site: ActivationRecord] {
    var records: [Site: ActivationRecord] = [:]
    let widths = Dictionary(
      uniqueKeysWithValues: block.shape.sites.map { ($0.site, $0.width) })
    var block = block
    block.pack(on: pass.compute)
    keyValues = KeyValueRecord()
    for index in calibration {
      let identity = WindowIdentity(windows[index])
      let (compute, bound) = (pass.compute, sampleBound)
      let before = advances ? nil : source[index]
      defer { if let before { source[index] = before } }
      pass.run(block, on: &source[index], isLast: isLast || !advances) { site, activation in
        let channels = widths[site] ?? 0
        // The bound assumes that all tokens reach the site; an expert sees only some.
        records[site, default: ActivationRecord(channels: channels)].add(
          activation, window: identity, samplingUpTo: site.isOfExpert ? .max : bound, on: compute)
        watch(site, activation, channels)
      }
      watchKeysAndValues(of: block)
    }
    return records
  }

  /// Adds the keys and values of the window that was processed last.
  mutating func watchKeysAndValues(of block: Block) {
    guard let attention = block.shape.attention else { return }
    let (keys, values) = pass.keysAndValues
    keyValues.add(
      keys: keys, values: values, width: attention.core.keyWidth, on: pass.compute)
  }
}
