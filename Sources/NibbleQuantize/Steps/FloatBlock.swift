import NibbleFormats
import NibbleModel
import NibbleTensor

extension Site {
  /// Whether a fold here changes nothing but norms and layers that become codes.
  func folds(into layers: [Role: Plan.Layer]) -> Bool {
    let fed: [Role] =
      switch self {
      case .attention, .feedForward: roles
      case .output: roles + [.value]
      case .down: roles + [.up]
      }
    return fed.allSatisfy { layers[$0] != nil }
  }
}

/// A block's float parameters while steps change them, before they are rounded.
struct FloatBlock {
  let config: DecoderConfig
  let index: Int
  /// `[n, k]` of each linear.
  private(set) var weights: [Role: FloatRows]
  /// What runs beside the weights: norms and biases as they stand.
  private var parameters: Block
  private let formats: [String: FloatFormat]
  /// What the channels of value were divided by, `[keyHeads · d]`; nil when by nothing.
  private(set) var valueFactors: [Float]?
  /// Vectors that differ from the source's, by tensor name.
  private var changed: Set<String> = []

  init(
    _ source: Block, _ index: Int, of config: DecoderConfig, in checkpoint: Checkpoint
  ) {
    self.config = config
    self.index = index
    parameters = source
    weights = source.linears.mapValues { linear in
      FloatRows(linear.weight.values(of: 0..<linear.weight.rows), columns: linear.weight.columns)
    }
    let family = config.family
    let names =
      [family.inputNorm, family.postAttentionNorm].map {
        family.normPath($0, block: index) + ".weight"
      } + Role.allCases.map { family.path(of: $0, block: index) + ".bias" }
    formats = Dictionary(
      uniqueKeysWithValues: names.compactMap { name in
        checkpoint.tensor(name)?.dtype.floatFormat.map { (name, $0) }
      })
  }

  /// The block as it stands, to run.
  var runnable: Block {
    var block = parameters
    for (role, weight) in weights {
      block.linears[role]?.weight = .float(weight.matrix)
    }
    return block
  }

  func bias(of role: Role) -> [Float]? { parameters.linears[role]?.bias }

  /// The vectors that changed, as they are stored.
  var changedTensors: [String: Bytes] {
    let family = config.family
    var tensors: [String: Bytes] = [:]
    for name in changed {
      guard let format = formats[name] else { continue }
      let values: [Float]? =
        switch name {
        case normName(.attention): parameters.inputNorm
        case normName(.feedForward): parameters.postAttentionNorm
        default:
          Role.allCases.first { family.path(of: $0, block: index) + ".bias" == name }
            .flatMap { parameters.linears[$0]?.bias }
        }
      if let values { tensors[name] = Bytes(format.encode(values.span)) }
    }
    return tensors
  }

  private func normName(_ site: Site) -> String {
    let family = config.family
    let norm = site == .attention ? family.inputNorm : family.postAttentionNorm
    return family.normPath(norm, block: index) + ".weight"
  }

  /// Which factor of a fold each channel of a site takes: query heads that share keys and values share
  /// factors, other channels have their own.
  func factorIndex(of site: Site) -> [Int] {
    let attention = config.attention
    guard site == .output else {
      return Array(0..<(site == .down ? config.intermediate : config.hidden))
    }
    let shared = attention.heads / attention.keyHeads
    return (0..<attention.heads * attention.headSize).map { channel in
      channel / attention.headSize / shared * attention.headSize + channel % attention.headSize
    }
  }

  /// Divides a site's activation by `factors` and multiplies the columns of its linears: the block's
  /// function stays what it was.
  ///
  /// The division goes into what feeds the site: the norm's weight, rounded as it is stored; the rows
  /// of value, exact because each head's weights sum to one; the rows of up, in which the gated unit
  /// is linear. A factor that the norm's or the bias's format cannot express becomes 1.
  ///
  /// - Parameters:
  ///   - factors: above zero, one for each value in `factorIndex(of: site)`.
  ///   - seen: statistics of the block's activations; the site's are divided too.
  mutating func fold(
    _ factors: [Float], into site: Site, _ seen: inout [Site: ActivationStatistics],
    on compute: Compute
  ) {
    var factors = factors
    switch site {
    case .attention: foldNorm(\.inputNorm, normName(site), &factors)
    case .feedForward: foldNorm(\.postAttentionNorm, normName(site), &factors)
    case .output:
      foldRows(of: .value, &factors)
      valueFactors = valueFactors.map { zip($0, factors).map(*) } ?? factors
    case .down: foldRows(of: .up, &factors)
    }
    let perChannel = factorIndex(of: site).map { factors[$0] }
    for role in site.roles { weights[role]?.scaleColumns(by: perChannel, on: compute) }
    seen[site] = seen[site]?.divided(by: perChannel, on: compute)
  }

  private mutating func foldNorm(
    _ norm: WritableKeyPath<Block, [Float]>, _ name: String, _ factors: inout [Float]
  ) {
    let format = formats[name] ?? .f32
    for channel in factors.indices {
      let old = parameters[keyPath: norm][channel]
      let new = format.round(old / factors[channel])
      let effective = old / new
      if new.isNormal, effective.isFinite, effective > 0 {
        factors[channel] = effective
        parameters[keyPath: norm][channel] = new
      } else {
        factors[channel] = 1
      }
    }
    changed.insert(name)
  }

  private mutating func foldRows(of role: Role, _ factors: inout [Float]) {
    if var bias = parameters.linears[role]?.bias {
      let name = config.family.path(of: role, block: index) + ".bias"
      let format = formats[name] ?? .f32
      for row in factors.indices {
        let new = format.round(bias[row] / factors[row])
        if new.isFinite { bias[row] = new } else { factors[row] = 1 }
      }
      parameters.linears[role]?.bias = bias
      changed.insert(name)
    }
    weights[role]?.scaleRows(by: factors.map { 1 / $0 })
  }
}
