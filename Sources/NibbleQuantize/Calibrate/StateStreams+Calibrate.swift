import NibbleModel
import NibbleTensor

extension StateStreams {
  /// Statistics of the activations of the source's block over the calibration windows. Advances the
  /// states, except after the last block.
  mutating func statistics(
    of block: Block, isLast: Bool = false, keepsMoments: Bool, keepsWindows: Bool = false
  ) -> [Site: ActivationStatistics] {
    var moments: [Site: GramMatrix] = [:]
    var extremes: [Site: [ColumnStatistics]] = [:]
    let compute = pass.compute
    let records = records(of: block, isLast: isLast) { site, activation, channels in
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
    of block: Block, isLast: Bool = false,
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
      pass.run(block, on: &source[index], isLast: isLast) { site, activation in
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

  /// Quantizes a block site by site, over the calibration windows of the quantized model: computes
  /// the moments of the site's inputs, lets `round` quantize its linears, and runs those.
  ///
  /// - Parameters:
  ///   - block: the float block, replaced by the quantized one.
  ///   - inputs: input rounding of each layer; equal for the layers of a site.
  ///   - rounded: the linears that `round` quantizes; sites without any are passed over.
  ///   - round: returns the quantized weights of a site's linears, from its moments `Σ x̂ x̂ᵀ`.
  mutating func roundInOrder(
    _ block: inout Block, inputs: [LinearID: InputRounding], rounding rounded: Set<LinearID>,
    _ round: (SiteShape, GramMatrix) -> [LinearID: Weight]
  ) {
    let compute = pass.compute
    keyValues = KeyValueRecord()
    // Parallel branches all read the states that enter the block.
    let moves = block.shape.residual == .sequential
    for site in block.shape.sites {
      let channels = site.width
      var moments = GramMatrix(channels: channels)
      var kept: [[Float]] = []
      var keptBytes = 0
      let rounds = site.ids.contains(where: rounded.contains)
      for index in calibration where rounds || site.site == .output {
        let activation = pass.activation(at: site, of: block, quantized[index])
        if site.site == .output { watchKeysAndValues(of: block) }
        if activation.isEmpty { continue }
        let rounding = site.ids.lazy.compactMap { inputs[$0] }.first
        moments.add(
          rounding?.rounded(activation, columns: channels, on: compute) ?? activation, on: compute)
        if moves, site.place == .end, keptBytes < Self.keptBytes {
          kept.append(activation)
          keptBytes += 4 * activation.count
        }
      }
      if rounds {
        moments.finish(on: compute)
        for (id, weight) in round(site, moments) { block.linears[id]?.weight = weight }
      }
      block.pack(on: compute)
      guard moves, site.endsBranch else { continue }
      for index in calibration {
        let activation =
          site.place != .end
          ? []
          : index < kept.count
            ? kept[index] : pass.activation(at: site, of: block, quantized[index])
        pass.endBranch(of: site, block, activation, on: &quantized[index])
      }
    }
    guard !moves else { return }
    for index in calibration { pass.run(block, on: &quantized[index]) { _, _ in } }
  }

  /// Adds the keys and values of the window that was processed last.
  private mutating func watchKeysAndValues(of block: Block) {
    guard let attention = block.shape.attention else { return }
    let (keys, values) = pass.keysAndValues
    keyValues.add(
      keys: keys, values: values, width: attention.core.keyWidth, on: pass.compute)
  }

  /// Largest size in bytes of activations that are kept instead of computed twice.
  static let keptBytes = 256 << 20
}
