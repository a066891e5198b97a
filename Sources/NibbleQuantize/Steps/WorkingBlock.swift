import NibbleFormats
import NibbleModel
import NibbleTensor

extension BlockShape {
  /// Channels of its widest site.
  var widest: Int { sites.map(\.width).max() ?? 0 }
}

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

/// A block while it is quantized: it starts as floats and ends as codes.
///
/// Its float weights are not copied. What steps do to a weight is recorded, and `weight(_:)` makes
/// the changed weight from the source's when it is asked for.
public struct WorkingBlock {
  let index: Int
  let compute: Compute
  /// The linears that are quantized.
  var layers: [LinearID: Plan.Layer]
  /// Statistics of the source's activations, as the changes so far make them.
  var seen: [Site: ActivationStatistics] = [:]
  /// Norms, biases and other vectors in their current state; weights are the source's until they
  /// are rounded.
  private(set) var parameters: Block
  /// Number of calibration tokens that reached each site.
  var tokens: [Site: Int] = [:]
  /// How each linear rounds its inputs; nil inputs stay float. Known before weights are rounded.
  var inputs: [LinearID: InputRounding] = [:]
  /// The linears that were rounded, and how well.
  private(set) var rounded: [LinearID: Rounded] = [:]
  /// Divisor of each channel of value, `[keyHeads · d]`; nil when there is none.
  private(set) var valueFactors: [Float]?

  /// What rounding made of a linear.
  struct Rounded {
    let matrix: QuantizedMatrix
    /// Power of the weight over that of its rounding errors.
    let signalToNoise: Double
    /// Number of codes outside the narrow range; nil for rules without outliers.
    let outliers: Int?
  }

  private enum WeightChange {
    case columns([Float])
    case rows([Float])
    case storage(FloatFormat)
  }

  private enum ActivationChange {
    case division([Float])
    case subtraction([Float])
  }

  private let source: Block
  private var weightChanges: [LinearID: [WeightChange]] = [:]
  /// Weights that were learned, to which later changes apply.
  private var learned: [LinearID: FloatRows] = [:]
  private var activationChanges: [Site: [ActivationChange]] = [:]
  /// Storage format of each vector, by tensor name within the block.
  private let formats: [String: FloatFormat]
  /// Vectors that differ from the source's, by tensor name within the block.
  private var changed: Set<String> = []

  var shape: BlockShape { parameters.shape }
  var sites: [SiteShape] { shape.sites }

  init(
    _ source: Block, _ index: Int, in checkpoint: Checkpoint,
    layers: [LinearID: Plan.Layer] = [:], on compute: Compute
  ) {
    self.index = index
    self.compute = compute
    self.layers = layers
    self.source = source
    parameters = source
    let shape = source.shape
    let names =
      shape.norms.flatMap { [$0.path + ".weight", $0.path + ".bias"] }
      + shape.linears.map { $0.id.rawValue + ".bias" }
      + shape.linears.filter(\.staysFloat).map { $0.id.rawValue + ".weight" }
    formats = Dictionary(
      uniqueKeysWithValues: names.compactMap { name in
        checkpoint.tensor("\(shape.path).\(name)")?.dtype.floatFormat.map { (name, $0) }
      })
  }

  /// The float weight `[n, k]` of a linear in its current state. Nil for stacked experts, which
  /// stay as they are.
  func weight(_ id: LinearID) -> FloatRows? {
    guard let linear = source.linears[id], shape.linear(id)?.stack == nil else { return nil }
    var weight = learned[id] ?? FloatRows(linear.weight, on: compute)
    for change in weightChanges[id] ?? [] {
      switch change {
      case .columns(let factors): weight.scaleColumns(by: factors, on: compute)
      case .rows(let factors): weight.scaleRows(by: factors)
      case .storage(let format): weight.values = weight.values.map { format.round($0) }
      }
    }
    return weight
  }

  /// An activation of the source at a site, `[t, k]`, as the changes so far make it.
  func changed(_ activation: [Float], at site: SiteShape) -> [Float] {
    guard let changes = activationChanges[site.site], !activation.isEmpty else {
      return activation
    }
    var rows = FloatRows(activation, columns: site.width)
    for change in changes {
      switch change {
      case .division(let factors): rows.scaleColumns(by: factors.map { 1 / $0 }, on: compute)
      case .subtraction(let centers): rows.subtract(centers)
      }
    }
    return rows.values
  }

  /// The block in its current state, to run: codes where weights were rounded, floats elsewhere.
  ///
  /// - Parameter ids: linears that do not run before they are rounded.
  func runnable(leaving ids: Set<LinearID> = []) -> Block {
    var block = parameters
    for id in source.linears.keys where rounded[id] == nil && !ids.contains(id) {
      if let weight = weight(id) { block.linears[id]?.weight = .float(weight.matrix) }
    }
    return block
  }

  func bias(of linear: LinearID) -> [Float]? { parameters.linears[linear]?.bias }

  /// A parameter in its current state; nil if the block has none.
  func value(of parameter: BlockParameter) -> FloatRows? {
    if case .weight(let id) = parameter { return weight(id) }
    return parameters.value(of: parameter, on: compute)
  }

  /// The value that a vector has when it is written: rounded to its storage format. Weights are not
  /// changed.
  func stored(_ value: FloatRows, of parameter: BlockParameter) -> FloatRows {
    if case .weight = parameter { return value }
    let format = formats[parameter.name] ?? .f32
    var offset: Float = 0
    if case .norm(let path) = parameter { offset = parameters.norms[path]?.shape.offset ?? 0 }
    return FloatRows(
      value.values.map { format.round($0 - offset) + offset }, columns: value.columns)
  }

  /// Replaces a parameter by a learned one.
  mutating func replace(_ parameter: BlockParameter, by value: FloatRows) {
    if case .weight(let id) = parameter {
      learned[id] = value
      weightChanges[id] = nil
      return
    }
    parameters.replace(parameter, by: stored(value, of: parameter))
    changed.insert(parameter.name)
  }

  /// The norm of a full module path.
  func norm(at path: String) -> Norm? {
    parameters.norms.values.first { shape.path(of: $0.shape) == path }
  }

  /// Replaces a weight by its codes.
  ///
  /// - Parameter weight: the float weight that the codes stand for.
  mutating func round(
    _ id: LinearID, to matrix: QuantizedMatrix, from weight: FloatRows, outliers: Int? = nil
  ) {
    rounded[id] = Rounded(
      matrix: matrix, signalToNoise: matrix.signalToNoise(against: weight, on: compute),
      outliers: outliers)
    parameters.linears[id]?.weight = .quantized(matrix, inputs: inputs[id])
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
          isBias ? parameters.linears[id]?.bias : weight(id)?.values
        }
      if let values { tensors["\(shape.path).\(name)"] = Bytes(format.encode(values.span)) }
    }
    return tensors
  }
}

// MARK: - Folds

extension WorkingBlock {
  /// Divides a site's activation by `factors` and multiplies the columns of its linears. The
  /// block's function does not change.
  ///
  /// The division is folded into the producer of the activation: the norm's weight, rounded to its
  /// storage format; the rows of value, exact because the attention weights of a head sum to one;
  /// or the rows of up, in which the gated unit is linear. A factor that the format of the norm or
  /// the bias cannot express becomes 1. Columns of linears that stay float are multiplied too, and
  /// rounded to their storage format. The site's statistics are divided.
  ///
  /// - Parameter factors: above zero, one per value in the site's `factorIndex`.
  /// - Returns: the divisor of each channel of the site.
  @discardableResult
  mutating func fold(_ factors: [Float], into site: SiteShape) -> [Float] {
    precondition(
      site.linears.allSatisfy { $0.stack == nil }, "\(site.site) has linears that stay as they are")
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
    for id in site.ids { weightChanges[id, default: []].append(.columns(perChannel)) }
    for linear in site.floats where linear.stack == nil { scaleFloat(linear, by: perChannel) }
    activationChanges[site.site, default: []].append(.division(perChannel))
    seen[site.site]?.divide(by: perChannel, on: compute)
    return perChannel
  }

  /// Multiplies the columns of a linear that stays float.
  private mutating func scaleFloat(_ linear: LinearShape, by factors: [Float]) {
    let name = linear.id.rawValue + ".weight"
    weightChanges[linear.id, default: []] += [
      .columns(factors), .storage(formats[name] ?? .f32),
    ]
    if let weight = weight(linear.id) {
      parameters.linears[linear.id]?.weight = .float(weight.matrix)
      changed.insert(name)
    }
  }

  /// Subtracts `centers` from the activation that a norm produces, through a bias of the norm, and
  /// adds the difference to the biases of its linears. The block's function does not change.
  ///
  /// The bias is rounded to the norm's storage format, and the rounded value is what is subtracted,
  /// from the site's statistics too.
  ///
  /// - Parameters:
  ///   - centers: one per channel.
  ///   - site: one that follows a norm.
  mutating func shift(by centers: [Float], at site: SiteShape) {
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
      guard let weight = weight(id) else { continue }
      let given = weight.times(moved)
      let bias = parameters.linears[id]?.bias
      parameters.linears[id]?.bias = bias.map { zip($0, given).map(+) } ?? given
      if bias != nil { changed.insert(id.rawValue + ".bias") }
    }
    activationChanges[site.site, default: []].append(.subtraction(moved))
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
    var inverse = [Float](repeating: 1, count: source.linears[id]?.weight.rows ?? 0)
    for (index, row) in rows.enumerated() { inverse[row] = 1 / factors[index] }
    weightChanges[id, default: []].append(.rows(inverse))
  }
}
