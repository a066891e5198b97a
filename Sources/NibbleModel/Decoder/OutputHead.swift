public import NibbleTensor

/// Computes logits from the hidden states after the last block. Its weight is packed for products.
public struct OutputHead: Sendable {
  let shape: HeadShape
  var norm: Norm?
  let projection: PreparedWeight?
  public private(set) var weight: PreparedWeight

  /// - Parameter weight: replaces the head of `ends`, for example by a quantized one; nil keeps it.
  public init(_ ends: DecoderEnds, weight: Weight? = nil, on compute: Compute) {
    shape = ends.shape.head
    norm = ends.finalNorm
    projection = ends.outputProjection.map { PreparedWeight($0) }
    self.weight = PreparedWeight(weight ?? ends.head)
    self.weight.packForSteps(on: compute)
  }
}
