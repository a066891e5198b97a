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
  /// What runs beside the weights, norms and biases as they stand; its weights are the source's.
  private(set) var parameters: Block
  private let formats: [String: FloatFormat]
  /// What the channels of value were divided by, `[keyHeads · d]`; nil when by nothing.
  private(set) var valueFactors: [Float]?
  /// Vectors that differ from the source's, by tensor name.
  private var changed: Set<String> = []

  init(
    _ source: Block, _ index: Int, of config: DecoderConfig, in checkpoint: Checkpoint,
    on compute: Compute
  ) {
    self.config = config
    self.index = index
    parameters = source
    weights = source.linears.mapValues { FloatRows($0.weight, on: compute) }
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

  /// The norm of a module path.
  func norm(at path: String) -> Norm? {
    [Site.attention, .feedForward].first { normPath($0) == path }.map {
      parameters[keyPath: norm(before: $0)]
    }
  }

  /// The vectors that changed, as they are stored; biases of norms are not among them.
  var changedTensors: [String: Bytes] {
    let family = config.family
    var tensors: [String: Bytes] = [:]
    for name in changed {
      guard let format = formats[name] else { continue }
      let values: [Float]? =
        switch name {
        case normPath(.attention) + ".weight": parameters.inputNorm.weight
        case normPath(.feedForward) + ".weight": parameters.postAttentionNorm.weight
        default:
          Role.allCases.first { family.path(of: $0, block: index) + ".bias" == name }
            .flatMap { parameters.linears[$0]?.bias }
        }
      if let values { tensors[name] = Bytes(format.encode(values.span)) }
    }
    return tensors
  }

  private func normPath(_ site: Site) -> String {
    let family = config.family
    let norm = site == .attention ? family.inputNorm : family.postAttentionNorm
    return family.normPath(norm, block: index)
  }

  private func norm(before site: Site) -> WritableKeyPath<Block, Norm> {
    site == .attention ? \.inputNorm : \.postAttentionNorm
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
  /// - Returns: what each channel of the site was divided by.
  @discardableResult
  mutating func fold(
    _ factors: [Float], into site: Site, _ seen: inout [Site: ActivationStatistics],
    on compute: Compute
  ) -> [Float] {
    var factors = factors
    switch site {
    case .attention, .feedForward: foldNorm(site, &factors)
    case .output:
      foldRows(of: .value, &factors)
      valueFactors = valueFactors.map { zip($0, factors).map(*) } ?? factors
    case .down: foldRows(of: .up, &factors)
    }
    let perChannel = factorIndex(of: site).map { factors[$0] }
    for role in site.roles { weights[role]?.scaleColumns(by: perChannel, on: compute) }
    seen[site]?.divide(by: perChannel, on: compute)
    return perChannel
  }

  /// Subtracts `centers` from the activation that a norm feeds, through a bias of the norm, and adds
  /// what they would have given to the biases of its linears: the block's function stays what it was.
  ///
  /// The bias is rounded as the norm is stored, and what is subtracted is what that leaves.
  ///
  /// - Parameters:
  ///   - centers: `[hidden]`.
  ///   - site: `attention` or `feedForward`.
  ///   - seen: statistics of the block's activations; the site's are shifted too.
  mutating func shift(
    by centers: [Float], at site: Site, _ seen: inout [Site: ActivationStatistics],
    on compute: Compute
  ) {
    let format = formats[normPath(site) + ".weight"] ?? .f32
    let norm = norm(before: site)
    let old = parameters[keyPath: norm].bias ?? [Float](repeating: 0, count: config.hidden)
    let new = zip(old, centers).map { bias, center in
      let rounded = format.round(bias - center)
      return rounded.isFinite ? rounded : bias
    }
    let moved = zip(old, new).map { $0 - $1 }
    parameters[keyPath: norm].bias = new
    for role in site.roles {
      guard let weight = weights[role] else { continue }
      let given = weight.times(moved)
      let bias = parameters.linears[role]?.bias
      parameters.linears[role]?.bias = bias.map { zip($0, given).map(+) } ?? given
      if bias != nil { changed.insert(config.family.path(of: role, block: index) + ".bias") }
    }
    seen[site] = seen[site]?.shifted(by: moved, on: compute)
  }

  private mutating func foldNorm(_ site: Site, _ factors: inout [Float]) {
    let norm = norm(before: site)
    let name = normPath(site) + ".weight"
    precondition(parameters[keyPath: norm].bias == nil, "norms are scaled before they are shifted")
    let format = formats[name] ?? .f32
    for channel in factors.indices {
      let old = parameters[keyPath: norm].weight[channel]
      let new = format.round(old / factors[channel])
      let effective = old / new
      if new.isNormal, effective.isFinite, effective > 0 {
        factors[channel] = effective
        parameters[keyPath: norm].weight[channel] = new
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
