public import NibbleTensor

/// Where a decoder's parameters come from: a float checkpoint, or a quantized one in some engine's
/// format.
public protocol WeightSource: Sendable {
  /// The matrix of the module at `path` (no `.weight`), `[outputs, inputs]`.
  func weight(_ path: String, outputs: Int, inputs: Int) throws(ModelError) -> Weight
  /// A vector by its full tensor name, as floats; nil when there is none.
  func vector(_ name: String, count: Int) throws(ModelError) -> [Float]?
  /// The norm of the module at `path`.
  func norm(_ path: String, width: Int) throws(ModelError) -> Norm
}

extension WeightSource {
  /// Its weight alone: the families that Nibble runs have no bias there.
  public func norm(_ path: String, width: Int) throws(ModelError) -> Norm {
    guard let weight = try vector(path + ".weight", count: width) else {
      throw .missingTensor(path + ".weight", path: "the checkpoint")
    }
    return Norm(weight: weight)
  }
}
