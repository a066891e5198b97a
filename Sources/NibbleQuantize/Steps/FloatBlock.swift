import NibbleFormats
import NibbleModel
import NibbleTensor

extension SiteShape {
  var ids: [LinearID] { linears.map(\.id) }

  /// Whether folding factors here changes only norms and layers that will be quantized.
  func folds(into layers: [LinearID: Plan.Layer]) -> Bool {
    guard ids.allSatisfy({ layers[$0] != nil }) else { return false }
    return switch feeder {
    case .norm: true
    case .rows(let id, _, _, _): layers[id] != nil
    case .none: false
    }
  }

  /// Whether a norm produces this activation.
  var followsNorm: Bool {
    if case .norm = feeder { true } else { false }
  }

  /// Index of the factor of each channel: query heads that share keys and values share factors,
  /// other channels have their own.
  var factorIndex: [Int] {
    guard case .rows(_, _, let size, let shared) = feeder, shared > 1 else {
      return Array(0..<width)
    }
    return (0..<width).map { $0 / size / shared * size + $0 % size }
  }
}

/// A block's float parameters while steps change them, before they are rounded.
struct FloatBlock {
  let index: Int
  /// `[n, k]` of each linear.
  private(set) var weights: [LinearID: FloatRows]
  /// Norms, biases and other vectors in their current state. The weights in it are the source's.
  private(set) var parameters: Block
  /// Storage format of each vector, by tensor name within the block.
  private let formats: [String: FloatFormat]
  /// Divisor of each channel of value, `[keyHeads · d]`; nil when there is none.
  private(set) var valueFactors: [Float]?
  /// Vectors that differ from the source's, by tensor name within the block.
  private var changed: Set<String> = []

  var shape: BlockShape { parameters.shape }
  var sites: [SiteShape] { shape.sites }

  init(_ source: Block, _ index: Int, in checkpoint: Checkpoint, on compute: Compute) {
    self.index = index
    parameters = source
    let shape = source.shape
    // Stacked experts stay as they are in any recipe.
    let stacked = Set(shape.linears.filter { $0.stack != nil }.map(\.id))
    weights = source.linears.filter { !stacked.contains($0.key) }.mapValues {
      FloatRows($0.weight, on: compute)
    }
    let names =
      shape.norms.flatMap { [$0.path + ".weight", $0.path + ".bias"] }
      + shape.linears.map { $0.id.rawValue + ".bias" }
      + shape.linears.filter(\.staysFloat).map { $0.id.rawValue + ".weight" }
    formats = Dictionary(
      uniqueKeysWithValues: names.compactMap { name in
        checkpoint.tensor("\(shape.path).\(name)")?.dtype.floatFormat.map { (name, $0) }
      })
  }

  /// The block in its current state, to run.
  var runnable: Block {
    var block = parameters
    for (id, weight) in weights { block.linears[id]?.weight = .float(weight.matrix) }
    return block
  }

  func bias(of linear: LinearID) -> [Float]? { parameters.linears[linear]?.bias }

  /// The norm of a full module path.
  func norm(at path: String) -> Norm? {
    parameters.norms.values.first { shape.path(of: $0.shape) == path }
  }

  /// The changed vectors in their storage format, by full name. Biases that norms gained are not
  /// included.
  var changedTensors: [String: Bytes] {
    var tensors: [String: Bytes] = [:]
    for name in changed {
      guard let format = formats[name] else { continue }
      let isBias = name.hasSuffix(".bias")
      let path = String(name.dropLast(isBias ? ".bias".count : ".weight".count))
      let id = LinearID(rawValue: path)
      let values: [Float]? =
        if let norm = parameters.norms[path] {
          isBias ? norm.bias : norm.storedWeight
        } else {
          isBias ? parameters.linears[id]?.bias : weights[id]?.values
        }
      if let values { tensors["\(shape.path).\(name)"] = Bytes(format.encode(values.span)) }
    }
    return tensors
  }

  /// Divides a site's activation by `factors` and multiplies the columns of its linears. The
  /// block's function does not change.
  ///
  /// The division is folded into the producer of the activation: the norm's weight, rounded to its
  /// storage format; the rows of value, exact because the attention weights of a head sum to one;
  /// or the rows of up, in which the gated unit is linear. A factor that the format of the norm or
  /// the bias cannot express becomes 1. Columns of linears that stay float are multiplied too, and
  /// rounded to their storage format.
  ///
  /// - Parameters:
  ///   - factors: above zero, one per value in the site's `factorIndex`.
  ///   - seen: statistics of the block's activations; the site's are divided too.
  /// - Returns: the divisor of each channel of the site.
  @discardableResult
  mutating func fold(
    _ factors: [Float], into site: SiteShape, _ seen: inout [Site: ActivationStatistics],
    on compute: Compute
  ) -> [Float] {
    precondition(site.ids.allSatisfy { weights[$0] != nil }, "\(site.site) is not all here")
    var factors = factors
    switch site.feeder {
    case .norm(let norm): foldNorm(norm, &factors)
    case .rows(let id, let part, _, _):
      foldRows(of: id, part, &factors)
      if part.role == .value {
        valueFactors = valueFactors.map { zip($0, factors).map(*) } ?? factors
      }
    case .none(let reason): preconditionFailure("\(site.site) takes no factors: \(reason)")
    }
    let perChannel = site.factorIndex.map { factors[$0] }
    for id in site.ids { weights[id]?.scaleColumns(by: perChannel, on: compute) }
    for linear in site.floats { scaleFloat(linear, by: perChannel, on: compute) }
    seen[site.site]?.divide(by: perChannel, on: compute)
    return perChannel
  }

  /// Multiplies the columns of a linear that stays float.
  private mutating func scaleFloat(
    _ linear: LinearShape, by factors: [Float], on compute: Compute
  ) {
    guard var weight = weights[linear.id] else { return }
    weight.scaleColumns(by: factors, on: compute)
    let name = linear.id.rawValue + ".weight"
    let format = formats[name] ?? .f32
    weight.values = weight.values.map { format.round($0) }
    weights[linear.id] = weight
    parameters.linears[linear.id]?.weight = .float(weight.matrix)
    changed.insert(name)
  }

  /// Subtracts `centers` from the activation that a norm produces, through a bias of the norm, and
  /// adds the difference to the biases of its linears. The block's function does not change.
  ///
  /// The bias is rounded to the norm's storage format, and the rounded value is what is subtracted.
  ///
  /// - Parameters:
  ///   - centers: one per channel.
  ///   - site: one that follows a norm.
  ///   - seen: statistics of the block's activations; the site's are shifted too.
  mutating func shift(
    by centers: [Float], at site: SiteShape, _ seen: inout [Site: ActivationStatistics],
    on compute: Compute
  ) {
    guard case .norm(let norm) = site.feeder else {
      preconditionFailure("\(site.site) follows no norm")
    }
    let format = formats[norm.path + ".weight"] ?? .f32
    let old = parameters.norms[norm.path]?.bias ?? [Float](repeating: 0, count: norm.width)
    let new = zip(old, centers).map { bias, center in
      let rounded = format.round(bias - center)
      return rounded.isFinite ? rounded : bias
    }
    let moved = zip(old, new).map { $0 - $1 }
    parameters.norms[norm.path]?.bias = new
    if norm.hasBias { changed.insert(norm.path + ".bias") }
    for id in site.ids + site.floats.map(\.id) {
      guard let weight = weights[id] else { continue }
      let given = weight.times(moved)
      let bias = parameters.linears[id]?.bias
      parameters.linears[id]?.bias = bias.map { zip($0, given).map(+) } ?? given
      if bias != nil { changed.insert(id.rawValue + ".bias") }
    }
    seen[site.site] = seen[site.site]?.shifted(by: moved, on: compute)
  }

  /// Divides the norm's multiplier, `w` or `offset + w`, as far as its storage format can express
  /// it.
  private mutating func foldNorm(_ shape: NormShape, _ factors: inout [Float]) {
    guard var norm = parameters.norms[shape.path] else { return }
    precondition(
      shape.hasBias || norm.bias == nil, "norms are scaled before they are shifted")
    let name = shape.path + ".weight"
    let format = formats[name] ?? .f32
    for channel in factors.indices {
      let old = norm.weight[channel]
      let new = format.round(old / factors[channel] - shape.offset) + shape.offset
      let effective = old / new
      if new.isNormal, effective.isFinite, effective > 0 {
        factors[channel] = effective
        norm.weight[channel] = new
      } else {
        factors[channel] = 1
      }
    }
    changed.insert(name)
    if let bias = norm.bias {
      let name = shape.path + ".bias"
      let format = formats[name] ?? .f32
      norm.bias = zip(bias, factors).map { format.round($0 / $1) }
      changed.insert(name)
    }
    parameters.norms[shape.path] = norm
  }

  private mutating func foldRows(
    of id: LinearID, _ part: LinearShape.Part, _ factors: inout [Float]
  ) {
    let rows = part.rows.flatMap(Array.init)
    if var bias = parameters.linears[id]?.bias {
      let name = id.rawValue + ".bias"
      let format = formats[name] ?? .f32
      for (index, row) in rows.enumerated() {
        let new = format.round(bias[row] / factors[index])
        if new.isFinite { bias[row] = new } else { factors[index] = 1 }
      }
      parameters.linears[id]?.bias = bias
      changed.insert(name)
    }
    var inverse = [Float](repeating: 1, count: weights[id]?.rows ?? 0)
    for (index, row) in rows.enumerated() { inverse[row] = 1 / factors[index] }
    weights[id]?.scaleRows(by: inverse)
  }
}
