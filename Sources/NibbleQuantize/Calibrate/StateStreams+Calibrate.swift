import NibbleModel
import NibbleTensor

extension StateStreams {
  /// Watches the activations of the source's block over the calibration windows; the states move on,
  /// but past the last block, where nobody needs them.
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

  /// The records of a block's activations; `watch` sees each as well.
  mutating func records(
    of block: Block, isLast: Bool = false,
    watch: (Site, _ activation: [Float], _ channels: Int) -> Void = { _, _, _ in }
  ) -> [Site: ActivationRecord] {
    var records: [Site: ActivationRecord] = [:]
    var block = block
    block.pack(on: pass.compute)
    keyValues = KeyValueRecord()
    for index in calibration {
      let identity = WindowIdentity(windows[index])
      let (config, compute, bound) = (pass.config, pass.compute, sampleBound)
      pass.run(block, on: &source[index], isLast: isLast) { site, activation in
        let channels = config.inputs(of: site)
        records[site, default: ActivationRecord(channels: channels)].add(
          activation, window: identity, samplingUpTo: bound, on: compute)
        watch(site, activation, channels)
      }
      watchKeysAndValues()
    }
    return records
  }

  /// Goes through the sites of a block in order, over the calibration windows of the quantized model:
  /// gathers what enters a site, lets `round` turn its linears into codes, and runs those.
  ///
  /// - Parameters:
  ///   - block: the float block that becomes the quantized one.
  ///   - inputs: how the layers round what enters; those of a site alike.
  ///   - round: the weights of a site's linears, from its moments `Σ x̂ x̂ᵀ`.
  mutating func roundInOrder(
    _ block: inout Block, inputs: [Role: InputRounding],
    _ round: (Site, GramMatrix) -> [Role: Weight]
  ) {
    let compute = pass.compute
    keyValues = KeyValueRecord()
    for site in Site.allCases {
      let channels = pass.config.inputs(of: site)
      var moments = GramMatrix(channels: channels)
      var kept: [[Float]] = []
      var keptBytes = 0
      for index in calibration {
        let activation = pass.activation(at: site, of: block, quantized[index])
        if site == .output { watchKeysAndValues() }
        let rounding = inputs[site.roles[0]]
        moments.add(
          rounding?.rounded(activation, columns: channels, on: compute) ?? activation, on: compute)
        if site.addsToStates != nil, keptBytes < Self.keptBytes {
          kept.append(activation)
          keptBytes += 4 * activation.count
        }
      }
      moments.finish(on: compute)
      for (role, weight) in round(site, moments) { block.linears[role]?.weight = weight }
      block.pack(on: compute)
      guard let role = site.addsToStates else { continue }
      for index in calibration {
        let activation =
          index < kept.count ? kept[index] : pass.activation(at: site, of: block, quantized[index])
        pass.add(role, of: block, activation, to: &quantized[index])
      }
    }
  }

  /// Adds the keys and values of the window that was attended to last.
  private mutating func watchKeysAndValues() {
    let (keys, values) = pass.keysAndValues
    let attention = pass.config.attention
    keyValues.add(
      keys: keys, values: values, width: attention.keyHeads * attention.headSize,
      on: pass.compute)
  }

  /// Bytes of activations that are kept rather than computed twice.
  static let keptBytes = 256 << 20
}

extension Site {
  /// The linear that reads this activation and adds to the states, if one does.
  var addsToStates: Role? {
    switch self {
    case .output: .output
    case .down: .down
    case .attention, .feedForward: nil
    }
  }
}
