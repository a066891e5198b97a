public import NibbleTensor

/// The parameters of one transformer layer.
public struct Block: Sendable {
  public struct Linear: Sendable {
    /// The weight, with its packed copy if there is one.
    public internal(set) var prepared: PreparedWeight
    /// `[n]`
    public var bias: [Float]?

    public var weight: Weight {
      get { prepared.weight }
      set { prepared = PreparedWeight(newValue) }
    }

    public init(weight: Weight, bias: [Float]?) {
      prepared = PreparedWeight(weight)
      self.bias = bias
    }
  }

  public let shape: BlockShape
  /// Norms over `hidden` channels and that of a mixer, by their path below the block.
  public var norms: [String: Norm] = [:]
  public var linears: [LinearID: Linear] = [:]
  /// Norms of queries and keys: one per head, one for all heads, or none.
  let queryNorms: [Norm]
  let keyNorms: [Norm]
  let valueNorms: [Norm]
  /// `[heads]`: logits of the attention sinks; nil for none.
  let sinks: [Float]?
  /// What a mixer has besides its linears and its norm, which is in `norms`.
  let net: DeltaNet.Parameters?
  /// Multiplies the states behind the last branch.
  let factor: Float
  /// Norm of the router's input; nil if it reads that of the experts.
  let routerNorm: Norm?
  /// `[experts]`: factors of the routing weights; nil for none.
  let shareFactors: [Float]?

  /// Reads a block, checking stored shapes against `shape`.
  public init(_ shape: BlockShape, from source: some WeightSource) throws(ModelError) {
    self.shape = shape
    for norm in shape.norms {
      norms[norm.path] = try source.norm(norm, at: shape.path(of: norm))
    }
    for linear in shape.linears {
      let path = shape.path(of: linear.id)
      if let stack = linear.stack {
        let (weight, bias) = try source.stacked(linear, stack, in: shape.path)
        linears[linear.id] = Linear(weight: weight, bias: bias)
        continue
      }
      let bias = try source.vector(path + ".bias", count: linear.outputs)
      if bias == nil, linear.bias == .required {
        throw .missingTensor(path + ".bias", path: "the checkpoint")
      }
      linears[linear.id] = Linear(weight: try source.weight(linear, at: path), bias: bias)
    }
    let attention = shape.attention
    queryNorms = try Self.norms(
      attention?.queryNorm, heads: attention?.core.heads ?? 0, of: shape, from: source)
    keyNorms = try Self.norms(
      attention?.keyNorm, heads: attention?.core.keyHeads ?? 0, of: shape, from: source)
    valueNorms = try Self.norms(
      attention?.valueNorm, heads: attention?.core.keyHeads ?? 0, of: shape, from: source)
    func vector(_ name: String, _ count: Int) throws(ModelError) -> [Float] {
      let name = "\(shape.path).\(name)"
      guard let values = try source.vector(name, count: count) else {
        throw .missingTensor(name, path: "the checkpoint")
      }
      return values
    }
    if let name = shape.factor { factor = try vector(name, 1)[0] } else { factor = 1 }
    if let experts = shape.experts, let input = experts.routerInput {
      let width = experts.router.inputs
      routerNorm = Norm(
        NormShape(experts.router.id.rawValue, width: width, epsilon: input.epsilon),
        weight: try vector(input.factors, width).map { $0 * input.scale })
    } else {
      routerNorm = nil
    }
    if let experts = shape.experts, let name = experts.shareFactors {
      shareFactors = try vector(name, experts.units.count)
    } else {
      shareFactors = nil
    }
    if let name = attention?.sinks, let heads = attention?.core.heads {
      sinks = try source.vector("\(shape.path).\(name)", count: heads)
      if sinks == nil { throw .missingTensor("\(shape.path).\(name)", path: "the checkpoint") }
    } else {
      sinks = nil
    }
    if let mixer = shape.mixer {
      norms[mixer.norm.path] = try source.norm(mixer.norm, at: shape.path(of: mixer.norm))
      net = try Self.net(mixer, of: shape, from: source)
    } else {
      net = nil
    }
  }

  private static func net(
    _ mixer: MixerShape, of block: BlockShape, from source: some WeightSource
  ) throws(ModelError) -> DeltaNet.Parameters {
    func vector(_ name: String) throws(ModelError) -> [Float] {
      let name = "\(block.path).\(name)"
      guard let values = try source.vector(name, count: mixer.core.valueHeads) else {
        throw .missingTensor(name, path: "the checkpoint")
      }
      return values
    }
    return DeltaNet.Parameters(
      mixer.core,
      convolution: try source.matrix(
        "\(block.path).\(mixer.convolution)", rows: mixer.core.channels,
        columns: mixer.core.kernel),
      logRates: try vector(mixer.logRates), stepBias: try vector(mixer.stepBias))
  }

  private static func norms(
    _ shape: AttentionShape.HeadNorm?, heads: Int, of block: BlockShape,
    from source: some WeightSource
  ) throws(ModelError) -> [Norm] {
    guard let shape else { return [] }
    let path = block.path(of: shape.norm)
    switch shape.span {
    case .head, .all: return [try source.norm(shape.norm, at: path)]
    case .ownModule:
      var norms: [Norm] = []
      for head in 0..<heads { norms.append(try source.norm(shape.norm, at: "\(path).\(head)")) }
      return norms
    case .ownHead:
      let weights = try source.matrix(path + ".weight", rows: heads, columns: shape.norm.width)
      return (0..<heads).map { head in
        Norm(
          shape.norm,
          weight: Array(weights[head * shape.norm.width..<(head + 1) * shape.norm.width]))
      }
    }
  }

  /// Packs the weights, for running the block over several sequences. Takes 1 to 6 bytes per value.
  public mutating func pack(on compute: Compute) {
    for id in linears.keys { linears[id]?.prepared.pack(on: compute) }
  }

  /// Packs quantized weights for products of a few tokens. The packed copy is as large as the
  /// codes.
  public mutating func packForSteps(on compute: Compute) {
    for id in linears.keys { linears[id]?.prepared.packForSteps(on: compute) }
  }

  /// Gives mapped pages back to the system.
  public func release() {
    for linear in linears.values { linear.weight.release() }
  }
}

extension WeightSource {
  /// A small matrix that is not a linear layer, widened to float.
  fileprivate func matrix(
    _ name: String, rows: Int, columns: Int
  ) throws(ModelError) -> [Float] {
    let path = String(name.dropLast(".weight".count))
    return try weight(path, outputs: rows, inputs: columns).values(of: 0..<rows)
  }
}
