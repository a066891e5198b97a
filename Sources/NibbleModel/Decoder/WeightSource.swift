public import NibbleTensor

/// Where a decoder's parameters come from: a float checkpoint, or a quantized one in some engine's
/// format.
public protocol WeightSource: Sendable {
  /// The matrix of the module at `path` (no `.weight`), `[outputs, inputs]`.
  func weight(_ path: String, outputs: Int, inputs: Int) throws(ModelError) -> Weight
  /// A vector by its full tensor name, as floats; nil when there is none.
  func vector(_ name: String, count: Int) throws(ModelError) -> [Float]?
}
