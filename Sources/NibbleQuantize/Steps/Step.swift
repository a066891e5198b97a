import NibbleTensor

/// One change applied to one block. A recipe is a list of steps; the last one rounds.
public enum Step: Hashable, Sendable, Codable {
  case smooth(Smooth)
  case awq(AWQ)
  case round(Round)
  case gptq(GPTQ)
  case outlierRound(OutlierRound)

  /// Calibration data that a step needs.
  struct Needs: OptionSet {
    let rawValue: Int

    /// Statistics of the source's activations.
    static let statistics = Needs(rawValue: 1)
    /// Second moments of the source's activations.
    static let moments = Needs(rawValue: 2)
    /// Activations of the quantized model, linear by linear.
    static let quantized = Needs(rawValue: 4)
    /// All data that the source's states provide.
    static let sourceStates: Needs = [.statistics, .moments]

    /// Number of models that the calibration windows run through.
    var streams: Int {
      (isDisjoint(with: .sourceStates) ? 0 : 1) + (contains(.quantized) ? 1 : 0)
    }
  }

  /// Whether the step turns weights into codes.
  var rounds: Bool {
    switch self {
    case .smooth, .awq: false
    case .round, .gptq, .outlierRound: true
    }
  }

  /// Whether the step divides the outputs of norms.
  var scalesNorms: Bool {
    switch self {
    case .smooth, .awq: true
    case .round, .gptq, .outlierRound: false
    }
  }

  /// Whether the step searches for scales instead of taking the extremes.
  var searches: Bool {
    switch self {
    case .smooth, .awq, .outlierRound: false
    case .round(let round): round.search != .extremes
    case .gptq(let gptq): gptq.search != .extremes
    }
  }

  var needs: Needs {
    switch self {
    case .smooth: [.statistics]
    case .awq: [.statistics, .moments]
    case .round(let round):
      switch round.search {
      case .extremes: []
      case .shrink: [.statistics]
      case .clip: [.statistics, .moments]
      }
    case .gptq: [.quantized]
    case .outlierRound(let round): round.compensates ? [.quantized] : []
    }
  }
}
