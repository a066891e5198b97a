import NibbleModel
import NibbleTensor

extension StateStreams {
  /// Rounds a block site by site, over the calibration windows of the quantized model: computes the
  /// moments of the site's inputs, lets `round` quantize its linears, and runs those.
  ///
  /// - Parameters:
  ///   - source: the float block, as it is stored.
  ///   - alignment: also runs the calibration windows of the source, so that the site is rounded
  ///     against its outputs; nil: against those of the unrounded weights.
  ///   - round: rounds the linears of a site that the block's layers name.
  /// - Returns: what alignment chose at each site.
  mutating func roundInOrder(
    _ block: inout WorkingBlock, from source: Block, aligning alignment: Alignment?,
    _ round: (inout WorkingBlock, SiteShape, SiteTargets) -> Void
  ) -> [StepReport] {
    let compute = pass.compute
    keyValues = KeyValueRecord()
    block.tokens = [:]
    var running = block.runnable(leaving: Set(block.layers.keys))
    var source = source
    if alignment != nil { source.pack(on: compute) }
    var reports: [StepReport] = []
    // Parallel branches all read the states that enter the block.
    let moves = block.shape.residual == .sequential
    for site in block.shape.sites {
      let rounds = site.ids.contains { block.layers[$0] != nil }
      let keeps = moves && site.place == .end
      // The same for all linears of a site that are rounded.
      let rounding = site.ids.compactMap { block.inputs[$0] }.first
      var kept = KeptActivations()
      var keptOfSource = KeptActivations()
      let aligned = rounds && site.expert == nil ? alignment : nil
      let scale = aligned.flatMap { residualScale(at: site, of: block.shape, $0) }
      var moments = aligned == nil ? GramMatrix(channels: site.width) : nil
      // Of the windows that are kept out, and of the others.
      var sums: [Bool: AlignedMoments] = [:]
      for index in calibration where rounds || site.site == .output {
        let activation = pass.activation(at: site, of: running, quantized[index])
        if site.site == .output { watchKeysAndValues(of: running) }
        if keeps { kept.append(activation) }
        if !rounds || activation.isEmpty { continue }
        let x = rounding?.rounded(activation, columns: site.width, on: compute) ?? activation
        moments?.add(x, on: compute)
        guard aligned != nil else { continue }
        let original = pass.activation(at: site, of: source, self.source[index])
        if keeps { keptOfSource.append(original) }
        sums[
          Alignment.keepsOut(window: index, of: calibration.count),
          default: AlignedMoments(
            channels: site.width, states: scale.map { _ in pass.shape.hidden })
        ].add(
          x, source: block.changed(original, at: site),
          states: scale.map { scale in
            // Without values that the states carry beside them.
            zip(self.source[index], quantized[index])
              .prefix(windows[index].count * pass.shape.hidden).map { ($0 - $1) / scale }
          }, on: compute)
      }
      if rounds {
        moments?.finish(on: compute)
        for key in sums.keys { sums[key]?.finish(on: compute) }
        let targets: SiteTargets =
          if let aligned, let fit = sums.removeValue(forKey: false) {
            SiteTargets(
              aligned, fit: consume fit, check: sums.removeValue(forKey: true),
              weights: site.ids.compactMap(block.weight), on: compute)
          } else {
            SiteTargets(moments ?? GramMatrix(channels: site.width))
          }
        block.tokens[site.site] = targets.moments.tokens
        round(&block, site, targets)
        if let summary = targets.summary {
          reports.append(
            StepReport(step: "align", block: block.index, site: site.site, result: summary))
        }
      }
      for id in site.ids where block.rounded[id] != nil {
        running.linears[id] = block.parameters.linears[id]
      }
      running.pack(on: compute)
      guard moves, site.endsBranch else { continue }
      for index in calibration {
        pass.end(site, of: running, kept[index], on: &quantized[index])
        if alignment != nil {
          pass.end(site, of: source, keptOfSource[index], on: &self.source[index])
        }
      }
    }
    guard !moves else { return reports }
    for index in calibration {
      pass.run(running, on: &quantized[index]) { _, _ in }
      if alignment != nil { pass.run(source, on: &self.source[index]) { _, _ in } }
    }
    return reports
  }

  /// The scale with which a site's linear adds its output to the states; nil when it does not, or
  /// not linearly, or alignment leaves them out.
  private func residualScale(
    at site: SiteShape, of block: BlockShape, _ alignment: Alignment
  ) -> Float? {
    let branch = block.branches[site.branch]
    guard alignment.usesResidual, site.place == .end, block.residual == .sequential,
      !block.addsToNormed, branch.inner == nil, branch.after == nil, branch.closing == nil
    else { return nil }
    return branch.scale
  }
}

extension ForwardPass {
  /// Finishes the branch of a site.
  ///
  /// - Parameter kept: the site's activation, if it is known.
  fileprivate mutating func end(
    _ site: SiteShape, of block: Block, _ kept: [Float]?, on states: inout [Float]
  ) {
    let activation =
      site.place != .end ? [] : kept ?? activation(at: site, of: block, states)
    endBranch(of: site, block, activation, on: &states)
  }
}

/// Activations of the first windows, kept so that they need not be computed twice.
private struct KeptActivations {
  private var values: [[Float]] = []
  private var bytes = 0

  mutating func append(_ activation: [Float]) {
    guard bytes < StateStreams.keptBytes else { return }
    values.append(activation)
    bytes += 4 * activation.count
  }

  subscript(window: Int) -> [Float]? { window < values.count ? values[window] : nil }
}

extension StateStreams {
  /// Largest size in bytes of activations that are kept instead of computed twice.
  static let keptBytes = 256 << 20
}
