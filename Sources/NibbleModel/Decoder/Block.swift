public import NibbleTensor

/// One transformer layer's parameters.
public struct Block: Sendable {
  public struct Linear: Sendable {
    /// The weight, packed or not.
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

  public var inputNorm: Norm
  public var postAttentionNorm: Norm
  public var linears: [Role: Linear]

  /// Reads block `index`; shapes are held against the config.
  public init(
    _ index: Int, of config: DecoderConfig, from source: some WeightSource
  ) throws(ModelError) {
    let family = config.family
    inputNorm = try source.norm(
      family.normPath(family.inputNorm, block: index), width: config.hidden)
    postAttentionNorm = try source.norm(
      family.normPath(family.postAttentionNorm, block: index), width: config.hidden)
    linears = [:]
    for linear in family.linears {
      let path = family.path(of: linear.role, block: index)
      let shape = config.shape(of: linear.role)
      let bias = try source.vector(path + ".bias", count: shape.outputs)
      if bias == nil, config.needsBias(linear.role) {
        throw .missingTensor(path + ".bias", path: "the checkpoint")
      }
      linears[linear.role] = Linear(
        weight: try source.weight(path, outputs: shape.outputs, inputs: shape.inputs), bias: bias)
    }
  }

  /// Packs the weights, for running the block over several sequences: 1 to 6 bytes a value.
  public mutating func pack(on compute: Compute) {
    for role in linears.keys { linears[role]?.prepared.pack(on: compute) }
  }

  /// Packs quantized weights for steps of a few tokens: as large as they are.
  public mutating func packForSteps(on compute: Compute) {
    for role in linears.keys { linears[role]?.prepared.packForSteps(on: compute) }
  }

  /// Gives mapped pages back to the system.
  public func release() {
    for linear in linears.values { linear.weight.release() }
  }
}
