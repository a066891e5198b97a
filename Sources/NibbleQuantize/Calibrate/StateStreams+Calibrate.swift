import NibbleModel
import NibbleTensor

extension StateStreams {
  /// Rows of each activation that are kept for measuring.
  static let sampledRows = 512

  /// Watches the activations of the source's block over the calibration windows.
  ///
  /// - Parameter advances: whether the source's states move on to the next block.
  mutating func statistics(
    of block: Block, keepsMoments: Bool, advances: Bool
  ) -> [Site: ActivationStatistics] {
    var seen: [Site: ActivationStatistics] = [:]
    let compute = pass.compute
    for index in calibration {
      let identity = WindowIdentity(windows[index])
      var states = source[index]
      for site in Site.allCases {
        let activation = pass.activation(at: site, of: block, states)
        let k = activation.count / windows[index].count
        var statistics =
          seen.removeValue(forKey: site)
          ?? ActivationStatistics(
            channels: k, sampled: Self.sampledRows, keepsMoments: keepsMoments)
        statistics.add(activation, window: identity, on: compute)
        seen[site] = statistics
        if let role = site.addsToStates { pass.add(role, of: block, activation, to: &states) }
      }
      if advances { source[index] = states }
    }
    for site in seen.keys { seen[site]?.finish(on: compute) }
    return seen
  }

  /// Goes through the sites of a block in order, over the calibration windows of the quantized model:
  /// gathers what enters a site, lets `round` turn its linears into codes, and runs those.
  ///
  /// - Parameters:
  ///   - source: the float block, which the source's states run through beside; nil when no step looks
  ///     at them.
  ///   - block: the float block that becomes the quantized one.
  ///   - inputs: how the layers round what enters; those of a site alike.
  ///   - round: the weights of a site's linears, from its moments `Σ x̂ x̂ᵀ` and the differences
  ///     `Σ (x - x̂) x̂ᵀ`.
  mutating func roundInOrder(
    source: Block?, _ block: inout Block, inputs: [Role: InputRounding],
    _ round: (Site, GramMatrix, GramMatrix?) -> [Role: Weight]
  ) {
    let compute = pass.compute
    for site in Site.allCases {
      var moments: GramMatrix?
      var differences: GramMatrix?
      var kept: [[Float]] = []
      var keptSource: [[Float]] = []
      var keptBytes = 0
      for index in calibration {
        let activation = pass.activation(at: site, of: block, quantized[index])
        let k = activation.count / windows[index].count
        let seen = inputs[site.roles[0]]?.rounded(activation, columns: k, on: compute) ?? activation
        if moments == nil { moments = GramMatrix(channels: k) }
        moments?.add(seen, on: compute)
        if let source {
          let wanted = pass.activation(at: site, of: source, self.source[index])
          var difference = FloatRows(wanted, columns: k)
          difference.add(FloatRows(seen, columns: k), times: -1, on: compute)
          if differences == nil { differences = GramMatrix(rows: k, columns: k) }
          differences?.add(difference.values, seen, on: compute)
          if site.addsToStates != nil, keptBytes < Self.keptBytes {
            keptSource.append(wanted)
            keptBytes += 4 * wanted.count
          }
        }
        if site.addsToStates != nil, keptBytes < Self.keptBytes {
          kept.append(activation)
          keptBytes += 4 * activation.count
        }
      }
      moments?.flush(on: compute)
      differences?.flush(on: compute)
      guard let moments else { return }
      for (role, weight) in round(site, moments, differences) {
        block.linears[role]?.weight = weight
      }
      guard let role = site.addsToStates else { continue }
      for index in calibration {
        let activation =
          index < kept.count ? kept[index] : pass.activation(at: site, of: block, quantized[index])
        pass.add(role, of: block, activation, to: &quantized[index])
        if let source {
          let activation =
            index < keptSource.count
            ? keptSource[index] : pass.activation(at: site, of: source, self.source[index])
          pass.add(role, of: source, activation, to: &self.source[index])
        }
      }
    }
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
