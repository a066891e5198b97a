public import NibbleTensor

/// What makes logits of the states after the last block, packed as products read it.
public struct OutputHead: Sendable {
  let shape: HeadShape
  let norm: Norm?
  let projection: PreparedWeight?
  public private(set) var weight: PreparedWeight

  /// - Parameter weight: in place of the head that `ends` holds, such as one that was quantized.
  public init(_ ends: DecoderEnds, weight: Weight? = nil, on compute: Compute) {
    shape = ends.shape.head
    norm = ends.finalNorm
    projection = ends.outputProjection.map { PreparedWeight($0) }
    self.weight = PreparedWeight(weight ?? ends.head)
    self.weight.packForSteps(on: compute)
  }
}
